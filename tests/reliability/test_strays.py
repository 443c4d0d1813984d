"""What else lies in a checkpoints directory, by accident or malice, stops no run."""

import json
import logging
import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorstore as ts

from tfm_jax.runs.process.exits import (
    CorruptCheckpoint,
    InfrastructureError,
    exit_code,
)
from tfm_jax.runs.storage import arrays, manifest, shards
from tfm_jax.runs.storage.checkpoint import Checkpointer, Config, load_params
from tfm_jax.runs.storage.weights import newest_sound


def state(step):
    return {"step": np.int32(step), "params": {"w": np.full(3, step, np.float32)}}


def save(checkpointer, step, **metrics):
    files = {"config.json": {"a": step}, "data.json": {"b": 1}}
    checkpointer.save(step, state(step), extras=files, metrics=metrics, wait=True)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A directory with the checkpoints 1, 2 and 3."""
    directory = tmp_path_factory.mktemp("original") / "checkpoints"
    with Checkpointer(directory, Config()) as checkpointer:
        for step in (1, 2, 3):
            save(checkpointer, step, nll=step)
    return directory


@pytest.fixture
def directory(original, tmp_path):
    return shutil.copytree(original, tmp_path / "checkpoints")


STRAYS = {  # name in the directory -> how it comes there
    "notes.txt": lambda path: path.write_text("mine"),
    ".ipynb_checkpoints": lambda path: path.mkdir(),
    "0000003": lambda path: path.mkdir(),
    "00000\u0663": lambda path: path.mkdir(),  # a digit to Python, and no step
    "9" * 30: lambda path: path.mkdir(),
    "000004.tmp-7": lambda path: path.write_text("half"),
    "000005.tmp-7": lambda path: path.mkdir(),
    "000006.tmp-7": lambda path: path.symlink_to("nowhere"),
    "000007.tmp-delete": os.mkfifo,
    "pipe": os.mkfifo,
    "000003/.ipynb_checkpoints": lambda path: path.mkdir(),
    "000003/._config.json": lambda path: path.write_bytes(b"\0\5\x16\7"),
    "000003/config-copy.json": lambda path: path.write_text("{"),
    "000003/pipe.json": os.mkfifo,
}


def test_strays_and_leftovers_of_any_type_are_ignored(directory, caplog):
    for name, make in STRAYS.items():
        make(directory / name)
    with Checkpointer(directory, Config(keep=2, keep_best=1, metric="nll")) as run:
        assert run.steps() == [1, 2, 3]
        assert run.latest_good() == 3
        assert run.extras(3) == {"config.json": {"a": 3}, "data.json": {"b": 1}}
        assert run.restore(3, state(0))["params"]["w"][0] == 3
        save(run, 4, nll=4)
        assert run.steps() == [1, 3, 4]
    assert load_params(directory)["w"][0] == 4
    assert not list(directory.glob("*.tmp-*"))
    assert (directory / "notes.txt").read_text() == "mine"
    assert not caplog.records


@pytest.mark.parametrize("content", [b"", b"[" * 100_000, b'{"nll": []}', None])
def test_an_older_checkpoint_without_scores_is_set_aside_and_training_goes_on(
    directory, caplog, content
):
    scores = directory / "000002" / "metrics.json"
    scores.unlink() if content is None else scores.write_bytes(content)
    with caplog.at_level(logging.WARNING), Checkpointer(directory, Config()) as run:
        assert run.latest_good() == 3
        for step in (4, 5):
            save(run, step)
    (record,) = caplog.records
    assert "000002 is corrupt and now called 000002.corrupt" in record.getMessage()
    assert run.steps() == [1, 3, 4, 5]  # the best, and the newest three


def test_a_moved_checkpoint_and_its_link_are_one(directory, tmp_path):
    """Deleting it deletes the link: what somebody moved is theirs."""
    elsewhere = tmp_path / "scratch"
    shutil.move(directory / "000001", elsewhere)
    (directory / "000001").symlink_to(elsewhere)
    with Checkpointer(directory, Config(keep=1, keep_best=0)) as run:
        assert run.restore(1, state(0))["step"] == 1
        assert run.latest_good() == 3
        save(run, 4)
        assert run.steps() == [4]
    assert [path.name for path in directory.iterdir()] == ["000004"]
    assert manifest.problems(elsewhere) == []


def test_links_whose_target_is_gone_are_no_fresh_start(directory, tmp_path):
    shutil.rmtree(directory)
    directory.symlink_to(tmp_path / "unmounted")
    with pytest.raises(InfrastructureError, match="link to one that") as e:
        Checkpointer(directory, Config())
    assert exit_code(e.value) == 69


def test_the_newest_sound_checkpoints_are_taken(directory, caplog):
    (directory / "000002" / "config.json").write_text("{}")
    found = newest_sound(directory, 2)
    assert [path.name for path in found] == ["000001", "000003"]
    (record,) = caplog.records
    assert "000002" in record.getMessage()
    for name in ("000001", "000003"):
        (directory / name / "manifest.json").unlink()
    with pytest.raises(CorruptCheckpoint, match="every checkpoint in"):
        newest_sound(directory, 2)


def forge(path, **changes):
    """A manifest with a sha256 that fits."""
    body = {**manifest.read(path), **changes}
    (path / "manifest.json").write_text(manifest._text(body))


W = {"shape": [3], "dtype": "float32"}
FORGERIES = {
    "files": [[], {"a": 1}, {"a\0": {"size": 1, "sha256": ""}},
              {"a" * 5_000: {"size": 1, "sha256": ""}},
              {"../../x": {"size": 1, "sha256": ""}}],
    "tree": [[], {"params/w": []}, {"params/w": {"shape": [-1], "dtype": "int32"}},
             {"params/w": W | {"shape": 3}}, {"params/w": W | {"dtype": None}}],
    "step": ["3", None, 2],
    "versions": ["x"],
}  # fmt: skip


def test_a_forged_manifest_is_damage(directory):
    path = directory / "000003"
    intact = (path / "manifest.json").read_bytes()
    for name, values in FORGERIES.items():
        for value in values:
            forge(path, **{name: value})
            assert manifest.problems(path), (name, value)
            (path / "manifest.json").write_bytes(intact)
    for content in (b"[" * 100_000, b'{"sha256": {}}', b"\xff", b"null"):
        (path / "manifest.json").write_bytes(content)
        (problem,) = manifest.problems(path)
        assert problem.startswith("manifest.json: ")
    (path / "manifest.json").unlink()
    (path / "manifest.json").symlink_to("manifest.json")
    assert manifest.problems(path)


@pytest.mark.parametrize(
    "tree",
    [
        {"params/w": {"shape": [4], "dtype": "float32"}},
        {"params/w": {"shape": [3], "dtype": "int32"}},
        {"params/v": {"shape": [3], "dtype": "float32"}},
        {"params/w": {"shape": [0], "dtype": "no dtype"}},
    ],
)
def test_arrays_that_are_not_as_the_manifest_says_are_refused(directory, tree):
    forge(directory / "000003", tree=tree)
    with pytest.raises(CorruptCheckpoint):
        load_params(directory / "000003")


@pytest.mark.parametrize(
    "stored",
    [
        dict(shape=[2**50], chunks=[1]),
        dict(shape=[3], chunks=[2**50]),
    ],
    ids=["shape", "chunks"],
)
def test_arrays_larger_than_the_manifest_says_are_never_allocated(
    directory, monkeypatch, stored
):
    path = directory / "000003"
    tree = manifest.read(path)["tree"]
    place = dict(driver="ocdbt", base=f"file://{path / 'state'}/", path="params/w/")
    spec = dict(driver="zarr", kvstore=place, metadata=stored | {"dtype": "<f4"})
    ts.open(spec, create=True, delete_existing=True).result()
    (path / "manifest.json").unlink()
    manifest.write(path, step=3, tree=tree)
    monkeypatch.setattr(shards, "read", pytest.fail)
    with pytest.raises(CorruptCheckpoint, match="params/w: "):
        load_params(path)


def test_arrays_larger_than_memory_are_refused_in_one_line(directory, monkeypatch):
    assert arrays.memory() > 2**28
    monkeypatch.setattr(arrays, "memory", lambda: 11)
    with pytest.raises(InfrastructureError, match="holds arrays of .* GB of memory$"):
        load_params(directory / "000003")


def test_memory_must_hold_one_array_of_those_that_accelerators_get(
    directory, monkeypatch
):
    path = directory / "000003"
    tree = manifest.read(path)["tree"]  # of 12 and 4 bytes
    there = jax.tree.map(jnp.asarray, arrays.read(path / "state", tree))
    monkeypatch.setattr(arrays, "memory", lambda: 12)
    with pytest.raises(InfrastructureError, match="GB of memory$"):
        arrays.read(path / "state", tree, there)
    monkeypatch.setattr(shards, "in_host_memory", lambda like: False)
    assert arrays.read(path / "state", tree, there).keys() == tree.keys()
    monkeypatch.setattr(arrays, "memory", lambda: 11)
    with pytest.raises(InfrastructureError, match="GB of memory$"):
        arrays.read(path / "state", tree, there)


def test_extras_that_are_no_json_are_refused_in_one_line(directory):
    path = directory / "000003"
    (path / "data.json").write_bytes(b"[" * 100_000)
    tree = manifest.read(path)["tree"]
    (path / "manifest.json").unlink()
    manifest.write(path, step=3, tree=tree)
    with (
        Checkpointer(directory, Config()) as run,
        pytest.raises(CorruptCheckpoint, match="data.json: nested too deep"),
    ):
        run.extras(run.latest_good())


@pytest.mark.parametrize("own", ["nll", "judged_nll"])
def test_by_default_the_workloads_own_loss_says_what_is_best(tmp_path, own):
    scores = {own: min, "nll": min}  # the first is its own
    with Checkpointer(tmp_path, Config(keep=1), scores) as run:
        for step, value in {1: 3.0, 2: 1.0, 3: 2.0, 4: 4.0}.items():
            save(run, step, **{"nll": -value, own: value})
        assert run.steps() == [2, 4]
    assert json.loads((tmp_path / "000002" / "metrics.json").read_text())[own] == 1.0
