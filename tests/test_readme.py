"""What the README tells people to type works, in both languages."""

import ast
import dataclasses
import importlib
import re
import shlex
from pathlib import Path

import pytest

from tfm_jax import config as configs
from tfm_jax import main
from tfm_jax.notebook import RUNS, Run
from tfm_jax.runs.process import exits
from tfm_jax.settings.experiment import resolve

ROOT = Path(__file__).resolve().parents[1]
READMES = ("README.md", "README.ko.md")
CONFIG = "configs/transformer_numerals.py"
PROGRAM = "python -m tfm_jax.main"


def text(name):
    return (ROOT / name).read_text("utf-8")


def blocks(name, language):
    found = re.findall(rf"```{language}\n(.*?)```", text(name), re.S)
    return [block.replace("\\\n", " ") for block in found]


def commands(name):
    """Arguments of every ``python -m tfm_jax.main``, pipes and comments left out."""
    lines = "\n".join(blocks(name, "bash")).splitlines()
    calls = [line.split(PROGRAM)[1] for line in lines if PROGRAM in line]
    return [shlex.split(call, comments=True) for call in calls]


def rows(name):
    """(flag, choices) of the table of ablations."""
    pattern = r"^\|.*\| `(--config[^`]+)` \| (.*) \|$"
    return re.findall(pattern, text(name), re.M)


COMMANDS = commands("README.md")


@pytest.fixture(autouse=True)
def here(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_the_readme_shows_every_mode():
    shown = {argument for arguments in COMMANDS for argument in arguments}
    modes = {f"--mode={mode}" for mode in main.MODES if mode != "train"}
    assert modes | {"--help"} <= shown


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_command_is_understood(arguments, tmp_path):
    values, knobs = main.parse(arguments)
    if any(flag.startswith("--each.") for flag in knobs):
        made, workdirs = main.members(values, knobs)
        assert len({resolve(config).seed for config in made}) == len(workdirs) > 1
        return
    source = "config" if values.config else "workdir"
    if values[source].value.startswith("runs/"):  # where there would be a run
        run = resolve(configs.load(CONFIG)).as_dict()
        (tmp_path / "config.json").write_text(configs.to_json(run))
        values[source].value = str(tmp_path)
    else:
        assert Path(values.config.partition(":")[0]).is_relative_to("configs")
    resolve(main.load_config(values, knobs))


@pytest.mark.parametrize("flag, choices", rows("README.md"))
def test_ablation_is_one_flag_with_these_choices(flag, choices):
    values, knobs = main.parse([f"--config={CONFIG}", flag])
    changed, before = resolve(main.load_config(values, knobs)), configs.load(CONFIG)
    _, section, name = flag.removeprefix("--").partition("=")[0].split(".")
    cfg = getattr(changed, section)
    assert getattr(cfg, name) != before[section][name], "it changes nothing"
    (field,) = (field for field in dataclasses.fields(cfg) if field.name == name)
    if "choices" in field.metadata:
        assert choices == ", ".join(field.metadata["choices"])


def test_tokenizers_are_all_named():
    sections = resolve(configs.load(CONFIG))
    (kind,) = (f for f in dataclasses.fields(sections.tokenizer) if f.name == "kind")
    flat = " ".join(text("README.md").split())
    assert f"is one of {', '.join(kind.metadata['choices'])}." in flat


@pytest.mark.parametrize("name", READMES)
def test_exit_codes_are_those_of_the_program(name):
    listed = [int(code) for code in re.findall(r"^\| (\d+) \|", text(name), re.M)]
    codes = {v for v in vars(exits).values() if isinstance(v, int)}
    assert set(listed) == codes and len(listed) == len(codes)


@pytest.mark.parametrize("name", READMES)
def test_python_imports_what_is_there(name):
    for block in blocks(name, "python"):
        for node in ast.walk(ast.parse(block)):
            assert not isinstance(node, ast.Import)
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module)
                for alias in node.names:
                    assert hasattr(module, alias.name) or importlib.import_module(
                        f"{node.module}.{alias.name}"
                    )


@pytest.mark.parametrize("name", READMES)
def test_links_and_parts_exist(name):
    content = text(name)
    linked = re.findall(r"\]\(([^)]+)\)", content)
    parts = re.findall(r"^\| `([\w/.]+)` \|", content, re.M)
    assert len(parts) > 10
    unmeasured = {"docs/attention.png"} if "<!-- RESULT -->" in content else set()
    for path in {*linked, *parts} - unmeasured:
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("name", READMES)
def test_what_runs_offer_is_listed(name):
    listed = re.findall(r"^\| (\w+) \| ((?:`\w+` )+)\|$", text(name), re.M)
    assert {task for task, _ in listed} == RUNS.keys()
    for task, methods in listed:
        there = {n for n in dir(RUNS[task]) if n[0] != "_" and not hasattr(Run, n)}
        assert set(re.findall(r"\w+", methods)) == there


def test_every_part_of_the_package_has_its_line():
    parts = re.findall(r"^\| `tfm_jax/([\w.]+)/?` \|", text("README.md"), re.M)
    there = {
        path.name
        for path in (ROOT / "tfm_jax").iterdir()
        if path.name[0] not in "._" and path.name not in ("__init__.py", "py.typed")
    }
    assert set(parts) == there


def test_both_languages_show_the_same():
    english, korean = READMES

    def without_comments(name):
        python = [ast.dump(ast.parse(block)) for block in blocks(name, "python")]
        shell = [re.sub(r" +#.*", "", block) for block in blocks(name, "bash")]
        return python, shell

    assert without_comments(english) == without_comments(korean)
    assert commands(english) == commands(korean)
    ours, theirs = rows(english), rows(korean)
    assert [flag for flag, _ in ours] == [flag for flag, _ in theirs]
    for (_, choices), (_, same) in zip(ours[:-1], theirs[:-1], strict=True):
        assert choices == same
    headings = [re.findall(r"^(#+) ", text(name), re.M) for name in READMES]
    assert headings[0] == headings[1]
