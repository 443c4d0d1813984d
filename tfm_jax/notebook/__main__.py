"""Notebooks that come along: which there are, and copies to work in.

Usage:
  python -m tfm_jax.notebook               which there are
  python -m tfm_jax.notebook NAME [NAME]   copies into the current folder

Exit codes: 0 done; 78 no such notebook, or there is a file of that name already.
"""

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from tfm_jax import shipped, terminal
from tfm_jax.config import ConfigError, nearest
from tfm_jax.runs.process import exits


@exits.command("tfm_jax.notebook")
def main(argv: Sequence[str]) -> None:
    """Exit code of the command ``argv``."""
    ours = shipped.files("notebooks", ".ipynb")
    if not argv or {"--help", "-h"} & set(argv):
        terminal.say(__doc__)
        for name, path in ours.items():
            terminal.say(f"  {name:12} {_title(path)}")
        return
    wanted = [Path(name).stem for name in argv]
    for name in wanted:
        if name not in ours:
            raise ConfigError(
                f"no notebook {name!r}; choose from ({', '.join(ours)})"
                f"{nearest(name, ours)}"
            )
        if Path(ours[name].name).exists():
            raise ConfigError(f"{ours[name].name} is in this folder already")
    for name in wanted:
        shutil.copyfile(ours[name], ours[name].name)
        terminal.say(ours[name].name)


def _title(path):
    first = json.loads(path.read_text("utf-8"))["cells"][0]
    return "".join(first["source"]).splitlines()[0].lstrip("# ")


def program() -> None:
    """The command of this process."""
    terminal.install()
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    program()
