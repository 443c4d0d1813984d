"""What reaches a terminal is text, whatever data, models and errors say."""

import ast
import io
import logging
import re
import subprocess
import sys
import unicodedata
import warnings
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.engines import screen
from experiments.runs.attempts import Status
from tfm_jax import terminal
from tfm_jax.runs.log import Progress
from tfm_jax.runs.process import exits
from tfm_jax.train import finish
from tfm_jax.workloads.evaluator import Scored

ROOT = Path(__file__).resolve().parents[1]
HOSTILE = "\x1b]0;title\x07 \x1b[2J\x9b31m\r\x08 \x7f\0 \ud800"


def controls(text):
    return {c for c in text if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")}


@given(st.text())
def test_nothing_that_is_shown_can_act_on_a_terminal(text):
    assert controls(terminal.shown(text)) <= {"\n", "\t"}
    assert not controls(terminal.one_line(text))
    terminal.shown(text).encode("utf-8")


@given(st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"])))
def test_text_of_any_script_is_shown_as_it_is(text):
    assert terminal.shown(text) == text


def test_joiners_of_persian_hindi_and_emoji_stay():
    for text in ("می\u200cخواهم", "क्\u200dष", "👩\u200d🚀"):
        assert terminal.shown(text) == text


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_no_locale_stops_what_says_something(encoding):
    stream = io.TextIOWrapper(io.BytesIO(), encoding)
    terminal.say("위치 \x1b", file=stream)
    said = stream.buffer.getvalue()
    assert b"\x1b" not in said and said.endswith(b"\n")


def test_training_studies_and_errors_print_no_escape_sequence(capsys):
    with Progress(10) as progress:
        progress.evaluation(1, {HOSTILE: 1.0}, name=HOSTILE)
    finish.show(HOSTILE, Scored({"nll": 1.0}, lines=(HOSTILE,)))
    lines = screen.Lines(1, 0)

    class Cell:
        directory = Path(HOSTILE)

    lines.ended(Cell, Status("failed", error=f"one\n{HOSTILE}"), False)
    terminal.say(exits.one_line(ValueError(HOSTILE)), file=sys.stderr)
    said = capsys.readouterr()
    assert "title" in said.out and "title" in said.err
    assert controls(said.out + said.err) == {"\n"}


@pytest.fixture
def install(monkeypatch):
    """``terminal.install`` for one test."""
    for name, module in (("excepthook", sys), ("showwarning", warnings)):
        monkeypatch.setattr(module, name, getattr(module, name))

    def without_handlers():  # those of pytest
        monkeypatch.setattr(logging.root, "handlers", [])
        terminal.install()

    return without_handlers


def test_tracebacks_and_warnings_of_commands_are_text(install, capsys):
    install()
    sys.excepthook(ValueError, ValueError(HOSTILE), None)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning(UserWarning(f"{HOSTILE}\nx"), UserWarning, "f", 1)
    said = capsys.readouterr().err
    assert "ValueError" in said and "warning: " in said
    assert controls(said) == {"\n"}


def test_log_records_of_commands_are_text(install, capsys):
    install()
    logging.warning("damaged: %s", f"{HOSTILE}\nx")
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        logging.getLogger("library").exception(HOSTILE)
    first, second, *trace = capsys.readouterr().err.splitlines()
    assert first.startswith("warning: damaged: ") and "title" in first
    assert second.startswith("error: ") and "ValueError" in trace[-1]
    assert not controls("".join([first, second, *trace]))


def test_everything_that_is_printed_goes_the_same_way():
    files = [p for d in ("tfm_jax", "experiments") for p in (ROOT / d).rglob("*.py")]
    prints = {
        path.relative_to(ROOT).as_posix()
        for path in files
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"
    }
    assert prints == {"tfm_jax/terminal.py"}


def test_a_piped_translation_is_one_line_and_keeps_its_letters():
    out = io.StringIO()
    terminal.say("a\tb\nc\x1b[1m\u202bd", file=out, kept="\t")
    assert re.fullmatch("a\tb␊c␛\\[1m\u202bd\n", out.getvalue())


READER_GONE = """
import os, sys
from tfm_jax import terminal
terminal.install()
heard = [terminal.say("x"), terminal.say("y", file=sys.stderr)]
with open(sys.argv[1], "w") as file:
    print(heard, file.fileno() > 2, sys.stdin is not None, file=file)
"""


@pytest.mark.parametrize(
    ("how", "heard"),
    [
        ('"$0" -c "$1" "$2" <&- >&- 2>&-', "[True, True] True True"),
        ('{ sleep 0.2; "$0" -c "$1" "$2"; } 2>&1 | true', "[False, False] True True"),
    ],
    ids=["closed", "the reader is gone"],
)
def test_nothing_ends_because_nobody_reads_what_it_prints(tmp_path, how, heard):
    argv = ["sh", "-c", how, sys.executable, READER_GONE, str(tmp_path / "heard")]
    child = subprocess.run(argv, capture_output=True, text=True)
    assert (child.returncode, child.stderr) == (0, "")
    assert (tmp_path / "heard").read_text().strip() == heard
