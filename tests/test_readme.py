"""What README and guides tell people is so, in both languages."""

import ast
import dataclasses
import importlib
import re
import shlex
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.pages import (
    GUIDES,
    IN_ORDER,
    KOREAN,
    READMES,
    ROOT,
    blocks,
    command_lines,
    commands,
    text,
)
from tfm_jax import config as configs
from tfm_jax import main
from tfm_jax.notebook import RUNS, Run
from tfm_jax.runs.process import exits
from tfm_jax.settings.experiment import resolve

CONFIG = "configs/transformer_numerals.py"
COMMANDS = {shlex.join(argv): argv for page in IN_ORDER for argv in commands(page)}
LINKED = [  # files whose links are followed
    path
    for folder in (ROOT, ROOT / "docs", ROOT / "docs/studies")
    for path in sorted(folder.glob("*.md"))
] + [
    ROOT / name
    for name in (
        "benchmarks/README.md",
        "experiments/README.md",
        "experiments/README.ko.md",
    )
]


def rows(page):
    """(flag, choices) of the table of ablations."""
    pattern = r"^\|.*\| `(--config[^`]+)` \| (.*) \|$"
    return re.findall(pattern, text(page), re.M)


@pytest.fixture(autouse=True)
def here(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("page", READMES)
def test_the_readme_is_read_in_two_minutes(page):
    assert len(text(page).splitlines()) <= 120


def test_the_guides_show_every_mode():
    shown = {argument for argv in COMMANDS.values() for argument in argv}
    modes = {f"--mode={mode}" for mode in main.MODES if mode != "train"}
    assert modes | {"--help"} <= shown


@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=" ".join)
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


@pytest.mark.parametrize("flag, choices", rows("docs/ablate.md"))
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
    flat = " ".join(text("docs/data.md").split())
    assert f"is one of {', '.join(kind.metadata['choices'])}." in flat


@pytest.mark.parametrize("page", ["docs/stopping.md", KOREAN])
def test_exit_codes_are_those_of_the_program(page):
    listed = [int(code) for code in re.findall(r"^\| (\d+) \|", text(page), re.M)]
    codes = {v for v in vars(exits).values() if isinstance(v, int)}
    assert set(listed) == codes and len(listed) == len(codes)


@pytest.mark.parametrize("page", [*READMES, *GUIDES, KOREAN])
def test_python_imports_what_is_there(page):
    for _, block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            assert not isinstance(node, ast.Import)
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module)
                for alias in node.names:
                    assert hasattr(module, alias.name) or importlib.import_module(
                        f"{node.module}.{alias.name}"
                    )


def anchors(path):
    """What a link into a Markdown file may point to: its headings, spelled as links."""
    prose = re.sub(r"^```.*?^```", "", path.read_text("utf-8"), flags=re.M | re.S)
    headings = re.findall(r"^#+ (.*)$", prose, re.M)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("path", LINKED, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_what_is_there(path):
    prose = re.sub(r"^```.*?^```", "", path.read_text("utf-8"), flags=re.M | re.S)
    for link in re.findall(r"\]\(([^)]+)\)", prose):
        parts = urlsplit(link)
        if parts.scheme:  # of other sites: its form is checked, it is not fetched
            assert parts.scheme == "https" and "." in parts.netloc, link
            continue
        target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        assert target.is_file() and target.is_relative_to(ROOT), link
        if parts.fragment:
            assert unquote(parts.fragment) in anchors(target), link


@pytest.mark.parametrize("page", ["docs/design.md", KOREAN])
def test_parts_of_the_project_exist(page):
    parts = re.findall(r"^\| `([\w/.]+)` \|", text(page), re.M)
    assert len(parts) > 10
    for part in parts:
        assert (ROOT / part).exists(), part


@pytest.mark.parametrize("page", ["docs/trained.md", KOREAN])
def test_what_runs_offer_is_listed(page):
    listed = re.findall(r"^\| (\w+) \| ((?:`\w+` )+)\|$", text(page), re.M)
    assert {task for task, _ in listed} == RUNS.keys()
    for task, methods in listed:
        there = {n for n in dir(RUNS[task]) if n[0] != "_" and not hasattr(Run, n)}
        assert set(re.findall(r"\w+", methods)) == there


def test_every_part_of_the_package_has_its_line():
    parts = re.findall(r"^\| `tfm_jax/([\w.]+)/?` \|", text("docs/design.md"), re.M)
    there = {
        path.name
        for path in (ROOT / "tfm_jax").iterdir()
        if path.name[0] not in "._" and path.name not in ("__init__.py", "py.typed")
    }
    assert set(parts) == there


def test_both_readmes_show_the_same():
    english, korean = READMES

    def without_comments(page):
        python = [ast.dump(ast.parse(block)) for _, block in blocks(page, "python")]
        shell = [[*command_lines(block)] for _, block in blocks(page, "bash")]
        return python, shell

    assert without_comments(english) == without_comments(korean)
    headings = [re.findall(r"^(#+) ", text(page), re.M) for page in READMES]
    assert headings[0] == headings[1]


def test_the_korean_guide_shows_what_the_english_ones_show():
    def shown(*pages):
        all_blocks = [block for page in pages for _, block in blocks(page, "bash")]
        return {shlex.join(w) for block in all_blocks for w in command_lines(block)}

    assert shown(KOREAN) <= shown(*GUIDES)
    ours, theirs = rows("docs/ablate.md"), rows(KOREAN)
    assert [flag for flag, _ in ours] == [flag for flag, _ in theirs]
    for (_, choices), (_, same) in zip(ours[:-1], theirs[:-1], strict=True):
        assert choices == same
