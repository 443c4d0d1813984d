"""README and guides: which there are, in which order, and the code that they show."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
READMES = ("README.md", "README.ko.md")
KOREAN = "docs/guide.ko.md"
INDEX = (ROOT / "docs/index.md").read_text("utf-8")
GUIDES = tuple(f"docs/{name}.md" for name in re.findall(r"^\w+$", INDEX, re.M))
IN_ORDER = (READMES[0], *GUIDES)


def text(page):
    """What stands in a file of the project."""
    return (ROOT / page).read_text("utf-8")


def blocks(page, language="bash|python"):
    """(language, text) of each block of code, in order."""
    return re.findall(rf"^```({language})\n(.*?)^```", text(page), re.M | re.S)


def command_lines(block):
    """The words of each command, without comments; a pipe is a word."""
    for line in block.replace("\\\n", " ").splitlines():
        if words := shlex.split(line, comments=True):
            yield words


def commands(page, module="tfm_jax.main"):
    """Arguments of every ``python -m MODULE``, without what stands before it."""
    for _, block in blocks(page, "bash"):
        for words in command_lines(block):
            if module in words:
                yield words[words.index(module) + 1 :]
