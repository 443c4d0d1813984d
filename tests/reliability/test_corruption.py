"""Whatever happens to the files: noticed, named, and the checkpoint before is used."""

import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.reliability.states import make_state
from tfm_jax.runs import log
from tfm_jax.runs.process.exits import (
    BAD_CONFIG,
    BAD_DATA,
    CheckpointMismatch,
    CorruptCheckpoint,
    exit_code,
)
from tfm_jax.runs.storage import arrays, checkpoint, manifest, weights
from tfm_jax.runs.storage.checkpoint import (
    Checkpointer,
    Config,
    load_params,
    verify,
)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A directory with the checkpoints 1, 2 and 3."""
    directory = tmp_path_factory.mktemp("original") / "checkpoints"
    with Checkpointer(directory, Config()) as checkpointer:
        for step in (1, 2, 3):
            checkpointer.save(step, make_state(step), extras={"config.json": {"a": 1}})
    return directory


@pytest.fixture
def directory(original, tmp_path):
    return shutil.copytree(original, tmp_path / "checkpoints")


def data_file(path):
    """The largest file of arrays."""
    files = [file for file in (path / "state").rglob("*") if file.is_file()]
    return max(files, key=lambda file: file.stat().st_size)


def truncate(path):
    file = data_file(path)
    os.truncate(file, file.stat().st_size - 1)
    return file.name


def empty_file(path):
    file = data_file(path)
    os.truncate(file, 0)
    return file.name


def remove_file(path):
    file = data_file(path)
    file.unlink()
    return file.name


def remove_manifest(path):
    (path / "manifest.json").unlink()
    return "manifest.json: missing"


def truncate_manifest(path):
    os.truncate(path / "manifest.json", 100)
    return "manifest.json: unreadable"


def empty_directory(path):
    shutil.rmtree(path)
    path.mkdir()
    return "manifest.json: missing"


def become_a_file(path):
    shutil.rmtree(path)
    path.write_text("")
    return "manifest.json: missing"


def edit_config(path):
    text = (path / "config.json").read_text()
    (path / "config.json").write_text(text.replace("1", "2"))
    return "config.json: content differs"


def copy_of_another_step(path):
    shutil.rmtree(path)
    shutil.copytree(path.with_name("000002"), path)
    return "step 2 in directory 000003"


def point_outside(path):
    body = manifest.read(path)
    body["files"]["../000002/config.json"] = body["files"]["config.json"]
    (path / "manifest.json").write_text(manifest._text(body))
    return "../000002/config.json: outside the checkpoint"


DAMAGES = [
    truncate,
    empty_file,
    remove_file,
    remove_manifest,
    truncate_manifest,
    empty_directory,
    become_a_file,
    edit_config,
    copy_of_another_step,
    point_outside,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_used(
    directory, damage, caplog
):
    reason = damage(directory / "000003")
    with (
        caplog.at_level(logging.WARNING),
        Checkpointer(directory, Config()) as checkpointer,
    ):
        assert checkpointer.latest_good() == 2
        restored = checkpointer.restore(2, make_state(0))
        assert (directory / "000003.corrupt").exists()
        assert checkpointer.steps() == [1, 2]
        (record,) = caplog.records
        assert reason in record.getMessage()
        assert str(directory / "000003") in record.getMessage()
        assert checkpointer.latest_good() == 2  # and says it once
        assert len(caplog.records) == 1
        checkpointer.save(3, make_state(3), wait=True)  # the step is free again
        assert checkpointer.latest_good() == 3
    jax.tree.map(np.testing.assert_array_equal, restored, make_state(2))


def test_every_one_of_fifty_flipped_bits_is_noticed(original, tmp_path):
    """Drawn over all bytes of a checkpoint, its manifest among them."""
    path = shutil.copytree(original / "000003", tmp_path / "000003")
    files = sorted(file for file in path.rglob("*") if file.is_file())
    sizes = np.array([file.stat().st_size for file in files])
    rng = np.random.default_rng(0)
    assert verify(path) == []
    touched = set()
    for _ in range(50):
        # Every kind of file gets its share: half by size, half by name.
        weights = sizes / sizes.sum() / 2 + (sizes > 0) / (sizes > 0).sum() / 2
        file = files[rng.choice(len(files), p=weights)]
        intact = file.read_bytes()
        damaged = bytearray(intact)
        damaged[rng.integers(len(damaged))] ^= 1 << rng.integers(8)
        file.write_bytes(damaged)
        assert verify(path) != [], file
        file.write_bytes(intact)
        touched.add(file.name)
    assert verify(path) == []
    assert {"manifest.json", "config.json"} <= touched


def test_every_flipped_bit_of_the_manifest_is_noticed(original, tmp_path):
    path = shutil.copytree(original / "000003", tmp_path / "000003")
    intact = (path / "manifest.json").read_bytes()
    for position in range(0, len(intact), 5):
        damaged = bytearray(intact)
        damaged[position] ^= 1 << position % 8
        (path / "manifest.json").write_bytes(damaged)
        with pytest.raises(CorruptCheckpoint):
            manifest.read(path)


def test_restore_of_a_step_nobody_checked_verifies_it(directory):
    truncate(directory / "000002")
    with (
        Checkpointer(directory, Config()) as checkpointer,
        pytest.raises(CorruptCheckpoint, match="bytes instead of"),
    ):
        checkpointer.restore(2, make_state(0))


def test_training_never_starts_again_by_itself_when_all_are_corrupt(directory):
    for step in (1, 2, 3):
        truncate(directory / f"{step:06d}")
    for _ in range(2):  # nor at the second attempt, when all have been set aside
        with (
            Checkpointer(directory, Config()) as checkpointer,
            pytest.raises(
                CorruptCheckpoint, match="every checkpoint .* delete"
            ) as error,
        ):
            checkpointer.latest_good()
        assert exit_code(error.value) == BAD_DATA


def test_a_fresh_directory_has_no_latest_step(tmp_path):
    with Checkpointer(tmp_path / "new", Config()) as checkpointer:
        assert checkpointer.latest_good() is None
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700


def test_leftovers_of_a_killed_save_are_removed_and_never_loaded(directory):
    leftover = directory / "000004.tmp-123" / "state.orbax-checkpoint-tmp"
    leftover.mkdir(parents=True)
    (leftover / "manifest.ocdbt").write_bytes(b"half")
    assert load_params(directory)["encoder"]["scale"].shape == (8,)
    with Checkpointer(directory, Config()) as checkpointer:
        assert not leftover.parent.exists()
        assert checkpointer.latest_good() == 3


def test_the_same_step_can_go_bad_twice(directory):
    with Checkpointer(directory, Config()) as checkpointer:
        truncate(directory / "000003")
        assert checkpointer.latest_good() == 2
        checkpointer.save(3, make_state(3), wait=True)
        empty_file(directory / "000003")
        assert checkpointer.latest_good() == 2


def test_the_step_number_decides_what_is_newest_not_the_clock(directory):
    for step, when in ((1, 2_000_000_000), (3, 1)):
        os.utime(directory / f"{step:06d}", (when, when))
    with Checkpointer(directory, Config()) as checkpointer:
        assert checkpointer.latest_good() == 3


def test_another_format_is_a_mismatch_not_corruption(directory):
    path = directory / "000003"
    body = {**manifest.read(path), "format": 99}
    (path / "manifest.json").write_text(manifest._text(body))
    with (
        Checkpointer(directory, Config()) as checkpointer,
        pytest.raises(CheckpointMismatch, match="format 99.* load it with") as error,
    ):
        checkpointer.latest_good()
    assert exit_code(error.value) == BAD_CONFIG
    assert path.exists()


@pytest.mark.parametrize(
    "function",
    ["tfm_jax.runs.storage.manifest.file_digest", "tfm_jax.bounded_json.read_bytes"],
)
def test_a_failing_disk_is_not_mistaken_for_corruption(
    directory, monkeypatch, function
):
    def fail(path):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(function, fail)
    with Checkpointer(directory, Config()) as checkpointer:
        with pytest.raises(OSError, match="Input/output"):
            checkpointer.latest_good()
        assert checkpointer.steps() == [1, 2, 3]


# In a process of its own: Orbax leaves work behind when it meets files like these.
LOAD_EVERYTHING = """
import sys
from pathlib import Path
from tests.reliability.states import make_state
from tfm_jax.runs.storage.checkpoint import Checkpointer, Config, load_params

for directory in sys.argv[1:]:
    with Checkpointer(directory, Config()) as checkpointer:
        for load in (
            lambda: checkpointer.latest_good(),
            lambda: checkpointer.restore(3, make_state(0)),
            lambda: checkpointer.extras(3),
            lambda: checkpointer.metrics(3),
            lambda: load_params(directory),
        ):
            try:
                load()
            except Exception as error:  # refusing is fine, executing is not
                print(type(error).__name__)
print("tried all")
"""


def test_planted_pickles_are_never_executed(directory, tmp_path):
    """In place of every file and beside them, under a manifest that fits."""
    mkdir = f"cos\nmkdir\n(V{tmp_path / 'executed'}\ntR."  # a pickle, by hand
    payload = mkdir.encode()
    original = directory / "000003"
    names = [
        *(path.relative_to(original) for path in original.rglob("*") if path.is_file()),
        *("state/_METADATA.pkl", "config.pkl", "state/params.npy", "config.py"),
    ]
    attacks = []
    for number, name in enumerate(names):
        attacked = shutil.copytree(original, tmp_path / f"attack-{number}" / "000003")
        tree = manifest.read(attacked)["tree"]
        (attacked / name).write_bytes(payload)
        (attacked / "manifest.json").unlink()
        manifest.write(attacked, step=3, tree=tree)
        assert verify(attacked) == []
        attacks.append(attacked.parent)
    command = [sys.executable, "-c", LOAD_EVERYTHING, *attacks]
    child = subprocess.run(command, capture_output=True, text=True)
    assert "tried all" in child.stdout, child.stderr[-2000:]
    assert not (tmp_path / "executed").exists()
    (tmp_path / "payload").write_bytes(payload)
    subprocess.run([sys.executable, "-m", "pickle", tmp_path / "payload"], check=True)
    assert (tmp_path / "executed").exists()  # the payload is a working one


def test_the_loading_code_knows_no_way_to_execute_data():
    forbidden = ("pickle", "dill", "joblib", "marshal", "eval(", "exec(", "__import__")
    for module in (arrays, checkpoint, manifest, weights, log):
        code = Path(module.__file__).read_text().replace("ever unpickled", "")
        assert not [word for word in forbidden if word in code], module
