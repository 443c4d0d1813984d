"""Stages: a run that begins where another one, made for it, ended."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.runs import files
from tfm_jax.api import exits, install, replace, run_command, to_flag

FIRST = "first"  # folder of the first run, and what its flags begin with


def main(argv: Sequence[str]) -> Any:
    """Exit code of the command ``argv``: that of the run which ended it.

    ``--first=FILE --first.KNOB=VALUE`` is the first run; all else, with ``--workdir``,
    the second, which starts from it. A first run that has ended is not made again.
    """
    ours = [argument for argument in argv if argument.startswith(f"--{FIRST}")]
    rest = [argument for argument in argv if argument not in ours]
    workdir = next(a.partition("=")[2] for a in rest if a.startswith("--workdir="))
    where = Path(workdir, FIRST)
    config = [f"--config{argument.removeprefix(f'--{FIRST}')}" for argument in ours]
    if files.results(where) is None:
        code = run_command([*config, f"--workdir={where}"])
        if code != exits.OK:
            return code
    code = run_command([*rest, f"--config.init_from={to_flag(str(where))}"])
    if code == exits.OK:
        _join(where, Path(workdir))
    return code


def _join(first, second):
    """Adds the scores of the first run, as ``first_valid`` and so on."""
    before, after = (files.results(folder) or {} for folder in (first, second))
    scores = {f"{FIRST}_{k}": v for k, v in before.items() if isinstance(v, dict)}
    replace(second / "results.json", after | scores)


if __name__ == "__main__":
    install()
    sys.exit(main(sys.argv[1:]))
