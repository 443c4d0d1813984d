"""The shape of the source: who imports whom, and what no file may hold."""

import ast
import re
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
    "flags": {"knobs", "renamed"},
    "registry": set(),
    "shipped": set(),
    "config_files": {"knobs", "renamed", "shipped"},
    "config": {"knobs", "flags", "config_files", "bounded_json", "renamed"},
    "manual": {"config"},
    "ops": set(),
    "data": {"bounded_json", "knobs", "terminal"},
    "metrics": set(),
    "mesh": {"config", "ops"},
    "optim": {"config"},
    "layers": {"config", "ops"},
    "models": {"config", "ops", "layers", "data.batch", "registry"},
    "objectives": {"config", "ops", "data.batch"},
    "decode": {"config", "ops", "data.batch", "mesh"},
}
_BELOW_RUNS = {*BELOW} - {"manual"}
BELOW |= {"workloads": {*_BELOW_RUNS}}
BELOW |= {"settings": _BELOW_RUNS | {"workloads"}}
BELOW |= {"runs": _BELOW_RUNS | {"workloads", "settings"}}
_ON_RUNS = _BELOW_RUNS | {"workloads", "settings", "runs"}
BELOW |= {"train": _ON_RUNS, "interop": _ON_RUNS, "audit": _BELOW_RUNS}
BELOW |= {"notebook": _ON_RUNS | {"interop", "audit"}}
BELOW |= {"main": {"config", "manual", "terminal", "settings", "runs", "train"}}
BELOW["main"] |= {"interop", "__version__"}
BELOW |= {"interop.__main__": {"config", "flags", "terminal", "runs"}}
BELOW |= {"notebook.__main__": {"config", "shipped", "terminal", "runs"}}
BELOW |= {"api": {*BELOW}}  # the public face: nothing in the package imports it

# programs beside the package -> the parts they may import
BESIDE = {
    "experiments": {"api"},
    "configs": {
        *("config", "settings.configure", "settings.sections", "mesh", "optim"),
        *("runs.storage.checkpoint", "data", "models"),
    },
}

FRAMEWORKS = {"jax", "jaxlib", "flax", "optax", "orbax", "ml_collections", "absl"}
FORBIDDEN = {  # part -> packages of others that it does without
    **dict.fromkeys(("knobs", "renamed", "flags"), FRAMEWORKS),
    **dict.fromkeys(("config", "config_files"), FRAMEWORKS - {"ml_collections"}),
    "ops": FRAMEWORKS - {"jax"},
    "data": FRAMEWORKS,
}
NO_CODE_FROM_DATA = {"pickle", "dill", "joblib", "cloudpickle", "shelve", "marshal"}
DRAWERS = {"utils", "util", "common", "core", "lib", "helpers", "helper", "base"}


def imports(tree, package):
    """Dotted names that a module of ``package`` imports, ``from`` names included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*origin, *filter(None, [node.module])])
            yield from (f"{source}.{alias.name}" for alias in node.names)


def violations(source, path):
    """What ``source``, lying at ``path`` below the root, may not import."""
    parts = list(Path(path).with_suffix("").parts)
    part = parts[1]
    module = ".".join(parts[1:])
    allowed = BELOW.get(module, BELOW.get(part, set())) | {part}
    for name in imports(ast.parse(source), parts[:-1]):
        top, *rest = name.split(".")
        if top == "tfm_jax" and rest and not _within(rest, allowed):
            yield f"{path}: {part} may not import {name}"
        if top in FORBIDDEN.get(part, ()):
            yield f"{path}: {part} does without {top}"
        if top == "absl" and part != "main":
            yield f"{path}: only main imports absl"
        if top in ("experiments", "configs", "tests"):
            yield f"{path}: the package does not know {top}"


def _within(names, allowed):
    return any(f"{'.'.join(names)}.".startswith(f"{a}.") for a in allowed)


def violations_beside(source, path):
    """What ``source`` of a program beside the package may not import of it."""
    *folders, _ = parts = Path(path).with_suffix("").parts
    for name in imports(ast.parse(source), folders):
        top, *rest = name.split(".")
        if top == "tfm_jax" and not _within(rest, BESIDE[parts[0]]):
            yield f"{path}: {parts[0]} may not import {name}"
        if top == "configs":
            yield f"{path}: configurations are found by path, not imported as {name}"


def relative(path):
    return path.relative_to(ROOT).as_posix()


def test_imports_point_down():
    found = [
        violation
        for path in PACKAGE
        if path.parent != ROOT / "tfm_jax" or path.stem != "__init__"
        for violation in violations(path.read_text("utf-8"), relative(path))
    ]
    assert not found, "\n".join(found)


def test_the_page_of_the_design_lists_parts_from_the_ground_up():
    text = (ROOT / "docs/design.md").read_text("utf-8")
    listed = re.findall(r"^\| `tfm_jax/(\w+)", text, re.M)
    for number, part in enumerate(listed):
        below = {name.partition(".")[0] for name in BELOW[part]} - {"__version__", part}
        assert below <= {*listed[:number]}, part


@pytest.mark.parametrize("top", BESIDE)
def test_programs_beside_the_package_use_its_public_face_alone(top):
    found = [
        violation
        for path in FILES
        if path.is_relative_to(ROOT / top)
        for violation in violations_beside(path.read_text("utf-8"), relative(path))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "source, path, allowed",
    [
        ("from tfm_jax.api import say", "experiments/studies/size.py", True),
        ("from tfm_jax import api", "experiments/report/text.py", True),
        ("import tfm_jax", "experiments/run.py", False),
        ("from tfm_jax.runs import exits", "experiments/engines/batch.py", False),
        ("from tfm_jax.config import section", "configs/gpt1.py", True),
        ("from tfm_jax.train import loop", "configs/gpt1.py", False),
        ("from configs import gpt1", "configs/gpt2_small.py", False),
    ],
)
def test_the_public_face_is_told_from_what_is_behind_it(source, path, allowed):
    assert (not list(violations_beside(source, path))) == allowed


def test_every_part_has_a_rank():
    parts = {path.relative_to(ROOT / "tfm_jax").parts[0] for path in PACKAGE}
    assert {Path(part).stem for part in parts} - {"__init__"} <= set(BELOW)


def test_only_commands_rank_otherwise_than_their_parts():
    assert [name for name in BELOW if "." in name] == [
        "interop.__main__",
        "notebook.__main__",
    ]


@pytest.mark.parametrize(
    "source, path, allowed",
    [
        ("from tfm_jax.ops import masks", "tfm_jax/layers/stack.py", True),
        ("from tfm_jax.layers import stack", "tfm_jax/ops/masks.py", False),
        ("import tfm_jax.config", "tfm_jax/ops/masks.py", False),
        ("from ..train import loop", "tfm_jax/models/bert.py", False),
        ("from . import attention", "tfm_jax/layers/stack.py", True),
        ("from tfm_jax import models", "tfm_jax/objectives/translation.py", False),
        ("from tfm_jax.data.batch import X", "tfm_jax/objectives/vision.py", True),
        ("from tfm_jax.data import prepared", "tfm_jax/objectives/vision.py", False),
        ("def f():\n    import jax", "tfm_jax/data/rows/packing.py", False),
        ("import jax.numpy as jnp", "tfm_jax/config.py", False),
        ("from absl import flags", "tfm_jax/train/loop.py", False),
        ("from absl import flags", "tfm_jax/main.py", True),
        ("from tfm_jax.models import bert", "tfm_jax/main.py", False),
        ("from configs import base", "tfm_jax/train/loop.py", False),
        ("from tfm_jax import api", "tfm_jax/notebook/run.py", False),
    ],
)
def test_the_import_check_tells_up_from_down(source, path, allowed):
    assert (not list(violations(source, path))) == allowed


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_file_is_short_and_named_after_what_it_holds(path):
    assert len(path.read_text("utf-8").splitlines()) <= 400, "split it by concept"
    names = Path(relative(path)).with_suffix("").parts
    assert not DRAWERS & {name.lower() for name in names}


def executions(source):
    """What in ``source`` may run code that it did not write itself."""
    tree = ast.parse(source)
    yield from {name.split(".")[0] for name in imports(tree, [])} & NO_CODE_FROM_DATA
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        if called in ("eval", "exec", "torch.load", "yaml.load", "os.system"):
            yield called
        for keyword in node.keywords:
            if keyword.arg in ("allow_pickle", "shell"):
                yield keyword.arg


# Tests plant pickles to show that they are not loaded.
@pytest.mark.parametrize(
    "path", [p for p in FILES if not relative(p).startswith("tests/")], ids=relative
)
def test_no_code_from_data(path):
    assert not list(executions(path.read_text("utf-8")))


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from cloudpickle import loads",
        "eval(text)",
        "np.load(file, allow_pickle=True)",
        "torch.load(file)",
        "subprocess.run(line, shell=True)",
    ],
)
def test_the_execution_check_finds(source):
    assert list(executions(source))


@pytest.mark.parametrize("path", PACKAGE, ids=relative)
def test_module_says_what_it_is(path):
    docstring = ast.get_docstring(ast.parse(path.read_text("utf-8")))
    assert docstring
    if path.stem == "__init__":
        assert "\n" not in docstring
