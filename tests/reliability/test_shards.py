"""Sharded states: each shard is a part of its own on the disk, and is read alone."""

import math
import shutil

import jax
import numpy as np
import pytest
import tensorstore as ts
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from tfm_jax.runs.process.exits import CorruptCheckpoint
from tfm_jax.runs.storage import arrays, manifest, shards
from tfm_jax.runs.storage.checkpoint import Checkpointer, Config, load_params

SHAPE = (16, 256)


def mesh(**sizes):
    devices = jax.devices()[: math.prod(sizes.values())]
    return jax.make_mesh(tuple(sizes.values()), tuple(sizes), devices=devices)


def values(step):
    rng = np.random.default_rng(step)
    return {
        "step": np.int32(step),
        "params": {
            "w": rng.normal(size=SHAPE).astype(np.float32),
            "bias": rng.normal(size=SHAPE[1]).astype(np.float32),
        },
    }


def on(mesh, state, *spec):
    """``state`` on devices, with ``w`` divided so."""

    def put(x):
        divided = spec if np.shape(x) == SHAPE else ()
        return jax.device_put(x, NamedSharding(mesh, P(*divided)))

    return jax.tree.map(put, state)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """Checkpoints 1 and 2 of a state that eight devices divide."""
    directory = tmp_path_factory.mktemp("original") / "checkpoints"
    with Checkpointer(directory, Config()) as run:
        for step in (1, 2):
            run.save(step, on(mesh(fsdp=8), values(step), "fsdp"))
    return directory


def sizes(path, name):
    """Key -> bytes of what is stored of one array."""
    base = f"file://{path / 'state'}/"
    store = ts.KvStore.open({"driver": "ocdbt", "base": base}).result()
    keys = [key.decode() for key in store.list().result()]
    chunks = [k for k in keys if k.startswith(f"{name}/") and not k.endswith(".zarray")]
    return {key: len(store[key]) for key in chunks}


def test_each_device_has_a_part_of_its_own_on_the_disk(original):
    parts = sizes(original / "000002", "params/w")
    whole = 4 * math.prod(SHAPE)
    assert sorted(parts) == [f"params/w/{n}.0" for n in range(8)]
    np.testing.assert_allclose(list(parts.values()), whole / 8, rtol=0.1)
    stored = shards.stored(original / "000002" / "state")
    assert stored["params/w"].storage.chunk_shape == (2, 256)
    assert stored["params/bias"].storage.chunk_shape == (256,)


@pytest.mark.parametrize(
    ("sizes", "spec"),
    [
        (dict(fsdp=1), ("fsdp",)),
        (dict(fsdp=2), ("fsdp",)),
        (dict(fsdp=4), (None, "fsdp")),
        (dict(data=2, fsdp=2, tensor=2), (("data", "fsdp"), "tensor")),
        (dict(data=2, tensor=4), (None, "tensor")),
    ],
)
def test_it_is_restored_on_any_devices_bit_for_bit(original, sizes, spec):
    target = on(mesh(**sizes), values(0), *spec)
    with Checkpointer(original, Config()) as run:
        restored = run.restore(run.latest_good(), target)
    jax.tree.map(np.testing.assert_array_equal, restored, values(2))
    shardings = [jax.tree.map(lambda x: x.sharding, x) for x in (restored, target)]
    assert shardings[0] == shardings[1]
    np.testing.assert_array_equal(load_params(original)["w"], values(2)["params"]["w"])


def test_what_one_device_wrote_is_read_by_eight(tmp_path):
    with Checkpointer(tmp_path, Config()) as run:
        run.save(3, values(3), wait=True)
        assert len(sizes(run.path(3), "params/w")) == 1
        restored = run.restore(3, on(mesh(fsdp=8), values(0), "fsdp"))
    jax.tree.map(np.testing.assert_array_equal, restored, values(3))


def test_there_is_one_copy_of_each_number_in_host_memory():
    state = on(mesh(data=2, tensor=4), values(1), "tensor")
    host = arrays.to_host(arrays.leaves(state))
    for path, leaf in arrays.leaves(values(1)).items():
        assert host[path].nbytes == leaf.nbytes, path
        np.testing.assert_array_equal(host[path].whole(), leaf)
    assert [piece.shape for _, piece in host["params/w"].pieces] == [(4, 256)] * 4
    assert not np.shares_memory(
        host["params/bias"].whole(), np.asarray(state["params"]["bias"])
    )


def test_as_many_are_in_hand_at_a_time_as_have_the_bytes_of_the_largest():
    parts = [3, 5, 1, 1, 2, 9, 4, 4, 4]
    assert [len(batch) for batch in shards._batches(parts, int, 2)] == [3, 2, 1, 2, 1]
    assert [*shards._batches(parts, int, 99)] == [parts], "small ones share a file"
    assert not [*shards._batches([], int, 2)]


def data_files(path):
    found = (path / "state").glob("ocdbt.process_0/d/*")
    return sorted(found, key=lambda file: file.name)


def flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)


def other_step(file):
    """All shards are those of the step before, under their own index."""
    folder = file.parents[1]
    shutil.rmtree(folder)
    before = str(folder).replace("000002", "000001")
    shutil.copytree(before, folder)


@pytest.mark.parametrize("damage", [flip, lambda file: file.unlink(), other_step])
def test_damage_of_any_shard_is_seen_and_the_one_before_used(
    original, tmp_path, damage
):
    for number, file in enumerate(data_files(original / "000002")):
        copy = shutil.copytree(original, tmp_path / str(number))
        damage(copy / file.relative_to(original))
        with Checkpointer(copy, Config()) as run:
            with pytest.raises(CorruptCheckpoint):
                run.restore(2, on(mesh(fsdp=8), values(0), "fsdp"))
            assert run.latest_good() == 1
            restored = run.restore(1, on(mesh(fsdp=4), values(0), "fsdp"))
        jax.tree.map(np.testing.assert_array_equal, restored, values(1))
        if damage is other_step:
            break


def test_processes_divide_the_files_that_are_verified(original):
    path = original / "000002"
    files = manifest.read(path)["files"]
    shares = [manifest._share(files, n, 3) for n in range(3)]
    assert sorted(sum(shares, [])) == sorted(files)
    loads = [sum(files[name]["size"] for name in share) for share in shares]
    assert max(loads) - min(loads) <= max(file["size"] for file in files.values())
