"""Runs on images and text: stopped, moved, on several devices, together.

Flamingo's language model is frozen; a Q-Former learns all three objectives.
"""

import functools
import json
import shutil

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from tests.layers.weights import randomised
from tests.models.test_flamingo import LANGUAGE, RESAMPLER
from tests.reliability import tiny
from tests.workloads.pair_runs import SEEN, SHARED, qformer
from tests.workloads.untrained import untrained
from tfm_jax import mesh as meshes
from tfm_jax.runs import saved, sources
from tfm_jax.runs.log import read_history
from tfm_jax.runs.process.exits import CorruptCheckpoint, Preempted
from tfm_jax.settings.configure import configure
from tfm_jax.settings.experiment import resolve
from tfm_jax.train import finish, loop, population, program
from tfm_jax.train.assemble import batches_from

LM = LANGUAGE | dict(depth=1, positions="learned", max_length=24, dropout=0.1)
TOKENIZER = dict(kind="wordpiece", vocab=256, special=("<image>", "<end>"))


def flamingo(folder, seed=0, **changes):
    """Frozen, the language model of ``folder`` has no dropout."""
    sections = SHARED | dict(
        model=dict(vision=SEEN, lm=LM, resampler=RESAMPLER),
        tokenizer=TOKENIZER,
        eval=dict(every_steps=4, sentences=0),
    )
    how = dict(freeze="lm", init_from=f"lm={folder / 'lm'}", seed=seed)
    return configure("flamingo", "visual_lm", changes, **how, **sections)


FAMILIES = {
    "flamingo": flamingo,
    "qformer": lambda folder, **how: qformer(dropout=0.1, **how),
}


@pytest.fixture(scope="module", autouse=True)
def quick():
    with tiny.quick():
        yield


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A folder with a language model, ``lm``."""
    folder = tmp_path_factory.mktemp("study")
    whole = resolve(flamingo(folder))
    tokenizer = whole.workload.prepare(whole).tokenizer
    text = dict(source="scenes", length=24, layout="single", separator="<end>")
    built = configure("gpt", "causal_lm", model=LM, data=text, tokenizer=TOKENIZER)
    untrained(folder / "lm", built, tokenizer)
    return folder


@pytest.fixture(scope="module", params=FAMILIES)
def unbroken(request, study):
    """(function: changes -> configuration, workdir of the run)."""
    return trained(request.param, study)


def trained(family, study):
    config, workdir = functools.partial(FAMILIES[family], study), study / family
    assert workdir.exists() or tiny.run(workdir, config())
    return config, workdir


@pytest.mark.parametrize("cut", [1, 3])
def test_a_run_stopped_anywhere_goes_on_bit_for_bit(unbroken, tmp_path, cut, capsys):
    config, workdir = unbroken
    assert not tiny.run(tmp_path, config(), stop=(cut,))
    sources.read(str(tmp_path))
    assert f"init_from={tmp_path}: step {cut} of 6" in capsys.readouterr().out
    assert tiny.run(tmp_path, config())
    sources.read(str(tmp_path))
    assert f"init_from={tmp_path}: step" not in capsys.readouterr().out
    assert tiny.digests(tmp_path) == tiny.digests(workdir)
    for ours, theirs in zip(*map(flat, (tmp_path, workdir)), strict=True):
        assert ours == theirs


def flat(workdir, **how):
    """(path, bytes) of all parameters, frozen ones too."""
    params = flatten_dict(saved.load(workdir, **how).params, sep="/")
    return sorted((path, x.tobytes()) for path, x in params.items())


def test_a_frozen_part_goes_where_its_run_goes(study, tmp_path):
    """Without the run that it is from; damaged there, and gone, it is named."""
    config, workdir = trained("flamingo", study)
    (name,) = (path.name for path in (workdir / "frozen").iterdir())
    moved = shutil.copytree(workdir, tmp_path / "elsewhere" / "run")
    there, source = dict(flat(moved)), dict(flat(study / "lm"))
    assert {path: there[f"lm/{path}"] for path in source} == source
    assert flat(moved) == flat(workdir)
    files = (moved / "frozen" / name / "state").rglob("*")
    large = max(files, key=lambda path: path.is_file() * path.stat().st_size)
    large.write_bytes(large.read_bytes()[::-1])
    for damage in (lambda: None, lambda: shutil.rmtree(moved / "frozen")):
        damage()
        with pytest.raises(CorruptCheckpoint, match=f"frozen/{name}"):
            saved.load(moved)
        with pytest.raises(CorruptCheckpoint, match=f"frozen/{name}.*copy it to"):
            tiny.run(moved, config(train=dict(total_steps=8)))


@pytest.mark.parametrize("family", FAMILIES)
def test_eight_devices_have_the_loss_and_the_gradients_of_one(family, study):
    """Four shares of the batch, and halves of the parameters."""
    config = functools.partial(FAMILIES[family], study)
    alone, spread = (
        of_devices(config(mesh=sizes)) for sizes in ({}, dict(data=4, fsdp=2))
    )
    assert max(np.abs(x).max() for _, x in alone) > 1e-2
    for (path, x), (_, y) in zip(spread, alone, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-5, err_msg=path)


def of_devices(config):
    """Paths, and the loss, the weight and the gradients of trained parameters."""
    experiment = resolve(config)
    data = experiment.workload.prepare(experiment)
    experiment = experiment.complete(data.tokenizer)
    mesh = meshes.make_mesh(experiment.mesh)
    batch = next(batches_from(experiment, data, mesh, 0))
    with meshes.using(experiment.mesh, mesh):
        functions = program.build(experiment)
        compiled = program.on_mesh(functions, mesh)
        state = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), compiled.abstract)
        state = state._replace(params=randomised(state.params))
        state = jax.device_put(state, compiled.placed)
        batch = jax.tree.map(lambda x: x[None], batch)
        batch = meshes.put_batch(mesh, batch, leading=1)
        loss, weight, grads = jax.jit(functions.gradients)(state, batch)
    flat = flatten_dict(jax.device_get(grads), sep="/")
    return sorted({"loss": float(loss), "weight": float(weight), **flat}.items())


def test_members_of_a_population_are_the_runs_they_would_be_alone(
    study, tmp_path, capsys
):
    """Frozen parts and all; stopped once."""
    config, workdir = trained("flamingo", study)
    folders = [tmp_path / name for name in "ab"]
    with pytest.MonkeyPatch.context() as patch:
        step = functools.lru_cache(population.make_step)
        patch.setattr(population, "make_step", step)
        patch.setattr(finish, "finish", leave)
        made, init = [], population.Population.__init__
        patch.setattr(
            population.Population,
            "__init__",
            lambda self, *members: made.append(self) or init(self, *members),
        )
        with patch.context() as stopped:
            stopped.setattr(loop, "Preemption", lambda: tiny.StopAt((3,)))
            with pytest.raises(Preempted):
                population.train([config(), config(seed=1)], folders)
        population.train([config(), config(seed=1)], folders)
    for together in made:
        assert together.states.params["lm"]["embedding"]["table"] is None
        assert together.frozen["lm"]["embedding"]["table"].ndim == 2, "it is there once"
    assert "M of them frozen, on" in capsys.readouterr().out
    held = {path.name for x in (workdir, *folders) for path in x.glob("frozen/*")}
    assert len(held) == 1
    for ema in (False, True):
        pairs = zip(*(flat(x, ema=ema) for x in (folders[0], workdir)), strict=True)
        for (path, member), (_, run) in pairs:
            member, run = (np.frombuffer(x, np.float32) for x in (member, run))
            np.testing.assert_allclose(member, run, rtol=1e-3, atol=1e-4, err_msg=path)
    losses = [
        [r["loss"] for r in read_history(f) if r["kind"] == "train"] for f in folders
    ]
    assert losses[0] != losses[1]


def test_what_is_frozen_is_shared_if_it_is_the_same_alone(study):
    """Parameters that an expression holds as they were drawn differ by the seed."""
    experiment = resolve(flamingo(study))
    one, other = ({"lm": {"a": np.ones(2), "b": np.full(2, x)}} for x in (1, 2))
    one["tail"] = other["tail"] = np.ones(2)
    frozen = population._shared([one, other], experiment)
    assert frozen["lm"]["a"] is one["lm"]["a"]
    assert frozen["lm"]["b"] is None and frozen["tail"] is None


def leave(run, log):
    (run.workdir / "results.json").write_text(json.dumps({"step": run.step}))
    return {}
