"""What docs/references.md names is there: knobs with these values, modules, classes."""

import dataclasses
import re
from pathlib import Path

import pytest

from tfm_jax.data.rows import masked
from tfm_jax.models import MODELS
from tfm_jax.optim import optimizers
from tfm_jax.workloads import denoise

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs/references.md").read_text("utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in TEXT.splitlines()
    if line.startswith("|") and not line.startswith(("| |", "|---"))
]
HERE = [name for row in ROWS for name in re.findall(r"`([^`]+)`", row[-1])]
CLASSES = {
    "optim": [optimizers.Config],
    "data": [masked.Config, denoise.Config],
    "model": [family.config for family in MODELS.values()],
}


def legal(knob, value):
    """Whether a section has ``knob``, and it may be ``value``."""
    sections = knob.split(".") if "." in knob else ["model", knob]
    for cls in CLASSES[sections[0]]:
        names = sections[1:]
        while len(names) > 1:
            cls = type(getattr(cls(), names.pop(0), masked.Config()))
        for field in dataclasses.fields(cls):
            choices = field.metadata.get("choices", (value,))
            if field.name == names[0] and value in choices:
                return True
    return False


def test_every_row_has_four_columns():
    assert len(ROWS) > 50 and {len(row) for row in ROWS} == {4}


@pytest.mark.parametrize("pair", sorted({name for name in HERE if "=" in name}))
def test_a_knob_has_the_value(pair):
    assert legal(*pair.split("="))


def test_the_check_of_knobs_can_fail():
    assert legal("norm", "post") and legal("data.masking.draw", "static")
    assert not legal("norm", "prelm") and not legal("nrom", "post")


@pytest.mark.parametrize("path", sorted({name for name in HERE if "/" in name}))
def test_a_module_is_there(path):
    assert (ROOT / "tfm_jax" / path).is_file()


def test_what_is_named_of_transformers_is_there():
    package = pytest.importorskip("transformers")
    (version,) = re.findall(r"version (5[.\d]+\d)", TEXT)
    if package.__version__ != version:
        pytest.skip(f"the document is about {version}")
    files = {path for path in re.findall(r"`([\w/]+\.py)`", TEXT) if "models/" in path}
    folder = Path(package.__file__).parent
    there = {path for path in files if (folder / path).is_file()}
    assert len(there) >= 8
    assert files - there == {"models/transformer.py"}  # tensor2tensor's
    for name in re.findall(r"`((?:OpenAIGPT|Bert|Electra|Albert)\w+)`", TEXT):
        family = re.match("OpenAIGPT|Bert|Electra|Albert", name)[0].lower()
        family = family.replace("openaigpt", "openai")
        source = folder / "models" / family / f"modeling_{family}.py"
        assert f"class {name}(" in source.read_text("utf-8")
