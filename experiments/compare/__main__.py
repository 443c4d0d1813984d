"""Compare runs: in what their configurations differ, curves, scores, environment.

Usage:
  python -m experiments.compare RUN RUN ... [--page FILE]

  RUN           a workdir, or a pattern such as 'runs/*' or 'runs/studies/heads-cpu/*'
  --page FILE   the page with the curves; default compare.html
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tfm_jax.api import (
    InfrastructureError,
    Parser,
    exits,
    install,
    leave_accelerators,
    say,
)


@exits.command("experiments.compare")
def main(argv: Sequence[str]) -> None:
    """Exit code of the command ``argv``."""
    parser = Parser(
        prog="python -m experiments.compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage=argparse.SUPPRESS,
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help=argparse.SUPPRESS)
    parser.add_argument("--page", type=Path, default=Path("compare.html"))
    options = parser.parse_args(argv)
    leave_accelerators()
    from experiments import compare

    compared = compare(options.runs)
    if not say(compared.text()):
        return
    try:
        say(f"\nsee {compared.save(options.page)}")
    except OSError as error:
        raise InfrastructureError(f"--page={options.page}: {error}") from error


def program() -> None:
    """The command of this process."""
    install()
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    program()
