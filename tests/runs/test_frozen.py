"""Frozen parameters are bit-identical, and stored once."""

import os
import shutil
import types

import jax
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from tests.models import outside, towers
from tests.reliability import tiny
from tests.workloads.text_runs import write_files
from tfm_jax import models
from tfm_jax.config import ConfigError
from tfm_jax.objectives import causal_lm
from tfm_jax.optim import layerwise
from tfm_jax.runs import saved
from tfm_jax.runs.process.exits import CorruptCheckpoint, InfrastructureError
from tfm_jax.runs.storage import arrays, commit, frozen, manifest, weights
from tfm_jax.runs.storage.checkpoint import Checkpointer, Config
from tfm_jax.settings.experiment import resolve
from tfm_jax.train import modes
from tfm_jax.train.assemble import open_checkpoints
from tfm_jax.train.state import averaged, init_state

pytestmark = pytest.mark.usefixtures("compiled_once")
STEPS = dict(total_steps=4, ema_decay=0.5)


@pytest.fixture(scope="module", autouse=True)
def known():
    for module in (outside, towers):
        models.register(module.FAMILY)
    yield
    for module in (outside, towers):
        models.MODELS.pop(module.FAMILY.name)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Folder of runs: ``lm``, and ``first``, of which that is a frozen part."""
    folder = tmp_path_factory.mktemp("study")
    write_files(folder)
    with tiny.quick():
        assert tiny.run(folder / "lm", outside.get_config(folder, train=STEPS))
        assert tiny.run(folder / "first", config_of(folder))
    return folder


def config_of(study, freeze="lm"):
    named = dict(init_from=f"lm={study / 'lm' / 'checkpoints'}", train=STEPS)
    config = towers.get_config(study, freeze=freeze, **named)
    config.checkpoint.every_steps = 2
    return config


@pytest.fixture
def copy(study):
    """Of the run, in the same folder."""
    yield shutil.copytree(study / "first", study / "copy")
    shutil.rmtree(study / "copy")


def flat(workdir, **how):
    return flatten_dict(saved.load(workdir, **how).params, sep="/")


@pytest.mark.parametrize("ema", [False, True])
def test_they_are_those_of_their_own_run_bit_for_bit(study, ema):
    start, end = flat(study / "lm"), flat(study / "first", ema=ema)
    for path, x in start.items():
        np.testing.assert_array_equal(end[f"lm/{path}"], x)
    begun = flat(study / "first" / "checkpoints" / "000002", ema=ema)
    moved = {k.split("/")[0] for k, x in end.items() if (x != begun[k]).any()}
    assert moved == {"other", "tail"}


def test_they_have_no_optimizer_state_no_average_and_are_stored_once(study):
    for folder in weights.numbered(study / "first" / "checkpoints"):
        body = manifest.read(folder)
        assert not [path for path in body["tree"] if "lm" in path.split("/")]
        assert "ema/tail/kernel" in body["tree"] and body["format"] == 2
        (name,) = body["frozen"]
        assert [p.name for p in (study / "first" / "frozen").iterdir()] == [name]
    whole = manifest.read(study / "lm" / "checkpoints" / "000004")
    assert whole["format"] == 1 and "frozen" not in whole


def flip(store):
    (folder,) = store.iterdir()
    large = max(
        folder.rglob("state/**/*"), key=lambda p: p.is_file() * p.stat().st_size
    )
    content = bytearray(large.read_bytes())
    content[len(content) // 2] ^= 1
    large.unlink()  # it is shared
    large.write_bytes(content)


@pytest.mark.parametrize("damage", [flip, shutil.rmtree])
def test_damage_is_seen_and_said_and_no_checkpoint_is_given_up(study, copy, damage):
    damage(copy / "frozen")
    with pytest.raises(
        CorruptCheckpoint, match="corrupt, the newest: frozen/[0-9a-f]{64}"
    ):
        saved.load(copy)
    experiment = resolve(config_of(study))
    with (
        open_checkpoints(experiment, copy) as checkpoints,
        pytest.raises(
            CorruptCheckpoint, match="frozen/.*; another run that has frozen"
        ),
    ):
        checkpoints.latest_good()
    assert len(checkpoints.steps()) == 2
    shutil.copytree(study / "first" / "frozen", copy / "frozen", dirs_exist_ok=True)
    with open_checkpoints(experiment, copy) as checkpoints:
        assert checkpoints.latest_good() == 4


def test_other_arrays_under_the_name_are_seen(tmp_path):
    store, other = tmp_path / "run" / "frozen", tmp_path / "other" / "frozen"
    name = frozen.write(store, arrays.to_host({"lm/x": np.arange(3.0)}))
    planted = frozen.write(other, arrays.to_host({"lm/x": np.arange(4.0)}))
    shutil.rmtree(store / name)
    os.rename(other / planted, store / name)
    assert not manifest.problems(store / name)
    assert frozen.problems(store, [name])
    with pytest.raises(CorruptCheckpoint, match="content differs from its sha256"):
        frozen.read(store, [name])
    body = manifest.read(store / name)
    del body["content"]  # as it was before it said so
    (store / name / "manifest.json").write_text(manifest._text(body))
    with pytest.raises(CorruptCheckpoint, match="content differs from its sha256"):
        frozen.read(store, [name])
    assert frozen.digest([("lm/x", np.arange(3.0))]) == name
    assert frozen.digest([("lm/y", np.arange(3.0))]) != name
    assert frozen.digest([("lm/x", np.arange(3.0).reshape(3, 1))]) != name


def files(folder):
    return {
        p.relative_to(folder): p.stat().st_ino for p in folder.rglob("*") if p.is_file()
    }


def test_runs_side_by_side_share_the_files(tmp_path):
    host = {"lm/x": np.arange(6.0).reshape(2, 3), "lm/empty": np.zeros((0, 2))}
    stores = [tmp_path / name / "frozen" for name in ("a", "b", "c")]
    shards = arrays.to_host(host)
    names = {frozen.write(store, shards) for store in stores[:2]}
    (name,) = names
    assert files(stores[0]) == files(stores[1]) != {}
    for store in stores[:2]:
        flip(store)
    assert frozen.write(stores[2], shards) == name, "damaged ones are not taken over"
    assert not frozen.problems(stores[2], names)
    frozen.write(stores[0], shards)  # and are made again
    np.testing.assert_array_equal(frozen.read(stores[0], names)["lm/x"], host["lm/x"])


@pytest.mark.parametrize(
    ("run", "said"), [("beside", True), ("beside", False), ("own", False)]
)
def test_arrays_that_a_manifest_names_wrongly_are_not_kept(tmp_path, run, said):
    wanted = arrays.to_host({"lm/x": np.arange(3.0)})
    name = frozen.write(tmp_path / "a" / "frozen", wanted)
    shutil.rmtree(tmp_path / "a")
    others = arrays.to_host({"lm/x": np.ones(3)})
    store, place = tmp_path / "own" / "frozen", tmp_path / run / "frozen" / name
    os.rename(place.parent / frozen.write(place.parent, others), place)
    body = manifest.read(place) | {"content": name}
    if not said:
        del body["content"]
    (place / "manifest.json").write_text(manifest._text(body))
    assert not frozen.problems(place.parent, [name])
    assert frozen.write(store, wanted) == name
    assert frozen.read(store, [name])["lm/x"].tolist() == [0, 1, 2]


def test_a_save_that_fails_leaves_nothing(tmp_path, monkeypatch):
    """As of two processes, whose frozen parameters have a folder of their own."""
    two = types.SimpleNamespace(process_count=lambda: 2, process_index=lambda: 0)
    monkeypatch.setattr(commit, "jax", two)
    write = arrays.write

    def full(folder, host):
        write(folder, host)
        if "frozen" in folder.parts:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(arrays, "write", full)
    state = {"params": {"lm": {"x": np.ones(3)}, "tail": np.zeros(2)}}
    with (
        pytest.raises(InfrastructureError, match="No space left"),
        Checkpointer(tmp_path / "checkpoints", Config(), still=("^lm/",)) as run,
    ):
        run.save(1, state, wait=True)
    assert not [*(tmp_path / "checkpoints").iterdir(), *(tmp_path / "frozen").iterdir()]


def test_a_checkpoint_refers_to_nothing_that_is_not_there(tmp_path, monkeypatch):
    state = {"params": {"lm": {"x": np.ones(3)}, "tail": np.zeros(2)}}
    directory, write = tmp_path / "checkpoints", manifest.write

    def killed(folder, **body):
        if folder.parent.name == "frozen":
            raise OSError("killed here")
        write(folder, **body)

    monkeypatch.setattr(manifest, "write", killed)
    with (
        pytest.raises(InfrastructureError, match="killed here"),
        Checkpointer(directory, Config(), still=("^lm/",)) as run,
    ):
        run.save(1, state, wait=True)
    assert not weights.numbered(directory)
    (rest,) = (tmp_path / "frozen").iterdir()
    assert ".tmp-" in rest.name
    monkeypatch.undo()
    with Checkpointer(directory, Config(), still=("^lm/",)) as run:
        assert not any((tmp_path / "frozen").iterdir()), "it is cleared away"
        run.save(1, state)
        run.save(2, state, wait=True)
        np.testing.assert_array_equal(run.restore(2, state)["params"]["lm"]["x"], 1.0)
    assert weights.load_params(directory)["lm"]["x"].tolist() == [1.0] * 3


@pytest.mark.parametrize("freeze", ["lm", "^lm/"])
def test_a_run_of_before_goes_on_from_checkpoints_that_hold_all(
    study, tmp_path, freeze
):
    """Which was the layout of those that froze what an expression matches."""
    config, workdir = config_of(study, freeze), tmp_path / "run"
    with tiny.quick():
        assert tiny.run(tmp_path / "whole", config)
        assert not tiny.run(workdir, config, stop=(2,))
    with open_checkpoints(resolve(config), workdir) as checkpoints:
        body, extras = manifest.read(checkpoints.path(2)), checkpoints.extras(2)
    host = arrays.read(checkpoints.path(2) / "state", body["tree"])
    for path, x in frozen.read(workdir / "frozen", body["frozen"]).items():
        host |= {f"params/{path}": x, f"ema/{path}": x}
    shutil.rmtree(workdir / "checkpoints")
    shutil.rmtree(workdir / "frozen")
    with Checkpointer(workdir / "checkpoints", Config()) as before:
        before.save(2, unflatten_dict(host, sep="/"), extras=extras, wait=True)
    assert "ema/lm/output/kernel" in manifest.read(before.path(2))["tree"]
    assert flat(workdir).keys() == flat(tmp_path / "whole").keys()
    with tiny.quick():
        assert tiny.run(workdir, config)
    for ema in (False, True):
        there = flat(tmp_path / "whole", ema=ema)
        for path, x in flat(workdir, ema=ema).items():
            np.testing.assert_array_equal(x, there[path])


def test_averages_of_checkpoints_refer_to_them_too(study):
    workdir = study / "first"
    where = modes.average(workdir, config=None, last=2)
    assert manifest.read(where)["frozen"] and where.parent.name == "averaged"
    assert not [p for p in manifest.read(where)["tree"] if p.startswith("ema/lm/")]
    for path, x in flat(study / "lm").items():
        np.testing.assert_array_equal(flat(where)[f"lm/{path}"], x)
    shutil.rmtree(where.parent)


def test_they_drop_nothing_and_only_parts_that_are_named_do_not(study):
    for freeze, parts in (
        ("lm", ("lm",)),
        (" other, lm", ("other", "lm")),
        ("^lm", ()),
    ):
        experiment = resolve(config_of(study, freeze))
        assert (
            experiment.build_model(layout="unrolled").frozen_parts
            == experiment.frozen_parts
            == parts
        )
    assert experiment.frozen == ("^lm",)
    cfg = towers.Config(vocab=7)

    def traced(*parts):
        model, batch = towers.Towers(cfg, frozen_parts=parts), causal_lm.example()

        def apply(key):
            rngs = {"params": key, "dropout": key}
            return model.init_with_output(rngs, batch, train=True)[0]

        return str(jax.make_jaxpr(apply)(jax.random.key(0)))

    assert "bernoulli" in traced("lm") and traced() != traced("lm") != traced("other")
    assert "bernoulli" not in traced(*towers.PARTS)


def test_a_part_that_there_is_not_is_refused(study):
    message = r"freeze=lm,otter: part='otter'; choose from \(lm, other\); did you mean"
    with pytest.raises(ConfigError, match=message):
        resolve(config_of(study, "lm,otter"))


def test_an_expression_without_a_match_is_shown_where_each_part_begins():
    params = {"lm": {"x": np.ones(2), "y": np.ones(2)}, "tail": {"x": np.ones(2)}}
    with pytest.raises(ConfigError, match="'text' matches none of lm/x, tail/x, ..."):
        layerwise.frozen("text", params)


def test_what_is_evaluated_has_averages_of_what_moves_alone():
    params = {"lm": {"x": np.ones(2)}, "tail": {"x": np.ones(2)}}
    state = init_state(params, optax.sgd(0.1), 0, ema=True, freeze="^lm/")
    assert state.ema["lm"]["x"] is None
    state = state._replace(ema={"lm": {"x": None}, "tail": {"x": np.zeros(2)}})
    assert averaged(state)["lm"]["x"] is state.params["lm"]["x"]
    assert averaged(state)["tail"]["x"] is state.ema["tail"]["x"]
