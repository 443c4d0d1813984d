"""Files of a workdir that a disk, an accident or somebody else has changed."""

import os

import numpy as np
import pytest

from experiments.runs import files
from tfm_jax import bounded_json
from tfm_jax.config import ConfigError, from_json, to_json
from tfm_jax.runs.log import MetricsLog, read_history
from tfm_jax.runs.process.exits import InfrastructureError
from tfm_jax.runs.storage.checkpoint import Checkpointer, Config
from tfm_jax.runs.workdir import Lease, config_of, preflight, replace

VALUE = {"step": 20, "valid": {"nll": 0.1, "worst": float("nan")}, "names": ["a", 1]}
VALUE |= {"sizes": {2: -0.0, 10: 1e-300}, "text": "\u00e9\u2028"}


def flips(content):
    """``content`` with each of its bits flipped."""
    for at in range(len(content)):
        for bit in range(8):
            yield content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :]


def test_no_flipped_bit_of_a_sealed_file_changes_what_is_read(tmp_path):
    path = tmp_path / "results.json"
    replace(path, VALUE)
    said = repr(files.read(path))
    assert bounded_json.SUM not in said and "'nll': 0.1" in said
    for content in flips(path.read_bytes()):
        try:
            found = bounded_json.loads(content, dict, parse_constant=float)
            assert repr(bounded_json.unsealed(found)) == said
        except ValueError:
            pass


def test_no_flipped_bit_of_a_record_changes_what_is_read(tmp_path, caplog):
    with MetricsLog(tmp_path, trackers=()) as log:
        for step in (1, 2, 3):
            log.write(step, "train", {"loss": step / 7})
    path = tmp_path / "metrics.jsonl"
    sound, content = read_history(tmp_path), path.read_bytes()
    assert sound[1] == {"step": 2, "kind": "train", "loss": 2 / 7}
    for damaged in flips(content.split(b"\n")[1]):
        path.write_bytes(content.replace(content.split(b"\n")[1], damaged))
        assert all(record in sound for record in read_history(tmp_path))


DAMAGES = {
    "empty": lambda path: path.write_text(""),
    "nested": lambda path: path.write_text("[" * 100_000),
    "a digit": lambda path: path.write_text(path.read_text().replace("1,", "3,")),
    "gone": lambda path: path.unlink(),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_configuration_is_that_of_the_newest_checkpoint(
    tmp_path, caplog, damage
):
    path = tmp_path / "config.json"
    replace(path, {"seed": 1})
    assert config_of(tmp_path).to_dict() == {"seed": 1}
    DAMAGES[damage](path)
    with pytest.raises(ConfigError):
        config_of(tmp_path)
    with Checkpointer(tmp_path / "checkpoints", Config()) as checkpoints:
        extras = {"config.json": to_json({"seed": 1})}
        checkpoints.save(1, {"x": np.ones(1)}, extras=extras, wait=True)
    assert config_of(tmp_path).to_dict() == {"seed": 1}
    (record,) = caplog.records
    assert "the config.json of checkpoint 000001 is taken" in record.getMessage()


def test_a_configuration_from_before_there_were_checksums_is_read():
    assert from_json(to_json({"seed": 1})) == {"seed": 1}


IN_THE_WAY = {
    "a folder": lambda path: (path.mkdir(), (path / "mine").write_text("")),
    "a pipe": os.mkfifo,
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to nowhere": lambda path: path.symlink_to("/nowhere/at/all"),
    "a link": lambda path: path.symlink_to(path.parent / "precious"),
}
NAMES = ("results.json", ".results.json.tmp", ".metrics.jsonl.tmp", "lease.lock")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", IN_THE_WAY)
def test_what_is_in_the_way_of_a_file_is_set_aside(tmp_path, caplog, name, kind):
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "metrics.jsonl").write_text("")
    IN_THE_WAY[kind](tmp_path / name)
    with Lease(tmp_path), MetricsLog(tmp_path, trackers=()):
        replace(tmp_path / "results.json", {"step": 1})
    assert files.results(tmp_path) == {"step": 1}
    assert (tmp_path / "precious").read_text() == "precious"
    assert os.path.lexists(tmp_path / f"{name}.damaged")
    (record,) = caplog.records
    assert name in record.getMessage()


def test_a_relative_workdir_in_a_deleted_folder_is_unusable(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(InfrastructureError, match="--workdir=w is unusable"):
        preflight("w")
