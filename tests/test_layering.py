"""The shape of the source: who imports whom, and what no file may hold."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SKIPPED = {".venv", ".ci", ".git", "build", "runs"}
FILES = sorted(
    path
    for path in ROOT.rglob("*.py")
    if not SKIPPED & set(path.relative_to(ROOT).parts)
)
PACKAGE = [path for path in FILES if path.is_relative_to(ROOT / "tfm_jax")]

# part of the package -> the parts it may import, besides itself
BELOW = {
    "bounded_json": set(),
    "terminal": set(),
    "knobs": set(),
    "renamed": {"knobs"},
    "flag_values": {"knobs"},
    "registry": set(),
    "command_line": {"knobs", "flag_values", "renamed"},
    "config": {"knobs", "flag_values", "command_line", "bounded_json", "renamed"},
