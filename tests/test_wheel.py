"""The wheel is all one needs: built here, unpacked and used from an empty folder.

It is built of the files that .dockerignore leaves an image; no image is built.
"""

import configparser
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest

from tests.make_snapshots import FILES
from tfm_jax import config as configs

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {  # of the checkout -> where it is installed
    "tfm_jax": "tfm_jax",
    "experiments": "experiments",
    "configs": "tfm_jax/configs",
    "notebooks": "tfm_jax/notebooks",
}
CONTEXT = [  # what an image is built of
    line.removeprefix("!")
    for line in Path(ROOT, ".dockerignore").read_text().splitlines()
    if line.startswith("!")
]
FROM_THE_WHEEL = """
    import importlib.metadata, json, sys
    import tfm_jax
    from experiments import study_file
    from tfm_jax import config
    from tfm_jax.api import environment
    from tfm_jax.notebook.__main__ import main

    names = sys.argv[1:]
    [found] = [d for d in importlib.metadata.distributions(path=[sys.path[1]])]
    scripts = {s.name: callable(s.load()) for s in found.entry_points}
    study = study_file.read("positions").study
    answer = dict(
        where=tfm_jax.__file__,
        versions=[tfm_jax.__version__, found.version],
        code=[environment()[name] for name in ("code", "changes")],
        scripts=scripts,
        configs={name: config.to_json(config.load(name)) for name in names},
        study=config.to_json(config.load(study.config)),
        codes=[main([]), main(["study"]), main(["study"]), main(["stud"])],
    )
    json.dump(answer, open("answer.json", "w"))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of this checkout, unpacked."""
    folder = tmp_path_factory.mktemp("wheel")
    checkout, unpacked = folder / "checkout", folder / "unpacked"
    checkout.mkdir()
    for name in CONTEXT:
        if Path(ROOT, name).is_dir():
            ignore = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
            shutil.copytree(ROOT / name, checkout / name, ignore=ignore)
        else:
            shutil.copy(ROOT / name, checkout)
    build = "from setuptools import build_meta; build_meta.build_wheel('.')"
    command = [sys.executable, "-c", build]
    subprocess.run(command, cwd=checkout, check=True, capture_output=True)
    [path] = checkout.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        archive.extractall(unpacked)
    return unpacked


@pytest.fixture(scope="module")
def answer(wheel, tmp_path_factory):
    """What a process in an empty folder finds in it."""
    empty = tmp_path_factory.mktemp("empty")
    names = [Path(file).stem for file in FILES]
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FROM_THE_WHEEL), *names],
        cwd=empty,
        env=os.environ | {"PYTHONPATH": str(wheel), "JAX_PLATFORMS": "cpu"},
        check=True,
    )
    return json.loads((empty / "answer.json").read_text()) | {"folder": empty}


def test_the_wheel_holds_every_file_and_nothing_else(wheel):
    wanted = {
        f"{place}/{path.relative_to(ROOT / name).as_posix()}"
        for name, place in FOLDERS.items()
        for path in (ROOT / name).rglob("*")
        if path.is_file()
        and path.suffix not in (".md", ".pyc")
        and ".ipynb_checkpoints" not in path.parts
    }
    there = {
        path.relative_to(wheel).as_posix()
        for path in wheel.rglob("*")
        if path.is_file() and not path.parts[-2].endswith("licenses")
    }
    assert {name for name in there if ".dist-info/" not in name} == wanted


def test_from_an_empty_folder_configs_are_found_by_name(wheel, answer):
    assert Path(answer["where"]).is_relative_to(wheel)
    for name, text in answer["configs"].items():
        assert text == configs.to_json(configs.load(f"{ROOT}/configs/{name}.py"))


def test_from_an_empty_folder_a_study_finds_its_config(answer):
    assert answer["study"] == answer["configs"]["transformer_numerals_small"]


def test_the_scripts_of_the_wheel_are_there_and_it_knows_its_version(answer):
    assert answer["scripts"] and all(answer["scripts"].values())
    assert len({*answer["versions"]}) == 1


def test_a_notebook_is_copied_once_and_never_over_a_file(answer):
    assert answer["codes"] == [0, 0, 78, 78]
    copies = {path.name for path in answer["folder"].glob("*.ipynb")}
    assert copies == {"study.ipynb"}


def test_the_docker_recipe_copies_and_starts_what_is_there(answer):
    text = Path(ROOT, "Dockerfile").read_text()
    steps = [
        line.split(maxsplit=1) for line in text.splitlines() if line and line[0] != "#"
    ]
    copied = [words.split()[:-1] for step, words in steps if step == "COPY"]
    assert copied == [["."], ["requirements.lock"], ["--from=wheel", "/wheels"]]
    assert "requirements.lock" in CONTEXT
    program, *_ = json.loads(dict(steps)["CMD"])
    assert program in answer["scripts"]


def test_the_docker_recipe_has_the_python_of_the_lock_and_extras_there_are():
    text = Path(ROOT, "Dockerfile").read_text()
    assert {*re.findall(r"^FROM python:(\S+)-slim", text, re.M)} == {"3.11"}
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    named = {*re.findall(r"EXTRA=(\w+)", text), *re.findall(r"(\w+): Cloud TPUs", text)}
    assert named == {"gpu", "tpu"} <= {*setup["options.extras_require"]}


def test_without_a_checkout_the_files_say_which_code_ran(answer):
    code, changes = answer["code"]
    assert re.fullmatch("files [0-9a-f]{12}", code) and changes == "none"
