"""Models of transformers and diffusers: into a workdir, out of one, and compared.

Usage:
  python -m tfm_jax.interop import FOLDER WORKDIR [--tokenizer=PATH]
  python -m tfm_jax.interop export WORKDIR FOLDER [--model_type=TYPE] [--tower=TOWER]
  python -m tfm_jax.interop verify FOLDER

  import  FOLDER, as transformers writes it (config.json, safetensors, tokenizer), or
          diffusers (UNet2DModel, DiTTransformer2DModel), as a run that made no step:
          tfm_jax.notebook.load_run takes WORKDIR, and so does tfm_jax.main with
          --mode=eval and --mode=train
  export  the newest sound checkpoint of WORKDIR as a folder that transformers reads, or
          diffusers
  verify  FOLDER is read here and by that library, which must be installed; a table of
          the largest differences of outputs on random inputs and on texts, of which
          both must make the same ids, PASS or FAIL

  --tokenizer=PATH     file or folder, where FOLDER has none
  --model_type=TYPE    gpt2, openai-gpt, ...: which one where several fit the model
  --tower=TOWER        of ELECTRA after joint training: discriminator (the default) or
                       generator

Exit codes: 0 done, verify: PASS; 1 verify: FAIL, or anything else with a traceback;
65 data unreadable; 69 machine failed, retry; 78 command line or folder.
"""

import sys
from collections.abc import Sequence
from typing import Any

from tfm_jax import terminal
from tfm_jax.flags.parser import Parser
from tfm_jax.runs.process import exits


def parse(argv: Sequence[str]) -> Any:
    """The command line. Raises: ConfigError."""
    parser = Parser(prog="tfm_jax.interop", add_help=False, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (_, positionals, options) in COMMANDS.items():
        command = commands.add_parser(name, add_help=False, allow_abbrev=False)
        for positional in positionals:
            command.add_argument(positional)
        for option in options:
            command.add_argument(f"--{option}", default="")
    return parser.parse_args(argv)


def _import(given):
    from tfm_jax.interop import workdirs

    where = workdirs.import_folder(
        given.folder, given.workdir, tokenizer=given.tokenizer
    )
    terminal.say(f"{given.folder} as a run that made no step: {where}")
    if taken := workdirs.assumed(given.workdir, given.folder):
        terminal.say(taken)


def _export(given):
    from tfm_jax.interop import workdirs

    how = dict(model_type=given.model_type, tower=given.tower)
    terminal.say(f"written: {workdirs.export_run(given.workdir, given.folder, **how)}")
    if left := workdirs.unwritten(given.workdir):
        terminal.say(left)


def _verify(given):
    from tfm_jax.interop import verify

    rows = verify.compare(given.folder, say=terminal.say)
    terminal.say(verify.table(rows))
    return exits.OK if verify.passed(rows) else exits.UNKNOWN


COMMANDS = {  # name: what does it, its arguments, its options
    "import": (_import, ("folder", "workdir"), ("tokenizer",)),
    "export": (_export, ("workdir", "folder"), ("model_type", "tower")),
    "verify": (_verify, ("folder",), ()),
}


@exits.command("tfm_jax.interop")
def main(argv: Sequence[str]) -> Any:
    """Exit code of the command ``argv``; an unknown exception keeps its traceback."""
    if not argv or {"--help", "-h"} & set(argv):
        terminal.say(__doc__)
        return exits.OK if argv else exits.BAD_CONFIG
    given = parse(argv)
    return COMMANDS[given.command][0](given)


def program() -> None:
    """The command of this process."""
    terminal.install()
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    program()
