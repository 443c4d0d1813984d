"""What the knobs of data, loop and evaluation change; `tests/test_knobs.py` counts."""

import dataclasses
import functools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.reliability.tiny import get_config
from tests.traced import Vocabulary, traced
from tfm_jax import workloads
from tfm_jax.data.batches import train_batches
from tfm_jax.data.errors import DataError
from tfm_jax.data.prepared import prepare
from tfm_jax.data.rows import pairs
from tfm_jax.mesh import make_mesh
from tfm_jax.objectives import translation
from tfm_jax.optim.optimizers import Config as OptimConfig
from tfm_jax.optim.optimizers import make_optimizer
from tfm_jax.runs.log import read_history
from tfm_jax.settings.experiment import resolve
from tfm_jax.train import finish, loop, program
from tfm_jax.train.state import init_state
from tfm_jax.workloads.evaluator import Scored
from tfm_jax.workloads.translation import TranslationEvaluator

LONG = dict(source_length=64, target_length=64)  # rows that two numbers fit
STREAM = {  # what reaches the model: batches, and the texts of the held-out sets
    "data.source_language": "fr",
    "data.target_language": "fr",
    "data.numerals_max": 350,
    "data.numerals_train": 100,
    "data.numerals_heldout": 5,
    "data.numerals_seed": 1,
    "data.numerals_joined": dict(LONG, numerals_joined=2),
    "data.numerals_joined_heldout": dict(LONG, numerals_joined_heldout=2),
    "data.batching": "pack",
    "data.source_length": 40,
    "data.target_length": 40,
    "data.bucket_lengths": dict(batching="bucket", bucket_lengths=(14, 20)),
    "data.shuffle": False,
    "tokenizer.kind": "byte",
    "tokenizer.vocab": dict(kind="bpe", vocab=300),
    "tokenizer.shared": False,
    "tokenizer.min_frequency": 900,
}
RUN = {  # what a run does, and when
    "train.total_steps": 7,
    "train.batch_tokens": 1024,
    "train.accumulate_steps": 1,
    "train.row_multiple": 5,
    "train.log_every_steps": 2,
    "train.label_smoothing": 0.3,
    "train.ema_decay": 0.5,
    "train.skip_limit": 5,
    "train.skip_sigma": 4.0,
    "eval.every_steps": 4,
    "checkpoint.every_steps": 4,
}
EVAL = {  # what the evaluation decodes, and how
    "sentences": 2,
    "batch_tokens": 128,
    "batch_sentences": 2,
    "beam": 3,
    "length_penalty": 0.2,
    "max_length_offset": 7,
    "samples": 2,
    "average_last": 2,
    "pictures": False,
}
AT_THE_END = {"samples", "average_last", "pictures"}  # of a run, not of an evaluation


def changed(knob, listed, **base):
    """The run of `get_config` without and with another value of one knob."""
    section, _, name = knob.partition(".")
    changes = listed[knob]
    if not isinstance(changes, dict):
        changes = {name: changes}
    for keys in (changes.keys() - {name}, changes.keys()):
        wanted = {f"{section}__{key}": changes[key] for key in keys}
        yield resolve(get_config(**(base | wanted)))


@functools.cache
def streamed(experiment):
    """The batches and held-out texts of a run."""
    data = prepare(pairs.KIND, experiment.data, experiment.tokenizer)
    batches = train_batches(
        experiment.data, data, batch_tokens=64, total_batches=4, seed=0
    )
    arrays = [x if x is None else x.tolist() for batch in batches for x in batch]
    return arrays, data.examples


@pytest.mark.parametrize("knob", STREAM)
def test_every_knob_of_the_data_changes_what_reaches_the_model(knob):
    before, after = map(streamed, changed(knob, STREAM))
    assert before != after


@pytest.fixture
def stub(monkeypatch):
    """A run without a model: its loss says what the batch holds."""

    def build(experiment):
        real = program_build(experiment)

        def init(seed):
            params = {"table": jnp.ones(2)}
            optimizer = make_optimizer(experiment.optim, experiment.train.total_steps)
            ema = experiment.train.ema_decay > 0
            return init_state(params, optimizer, seed, ema=ema)

        def train_step(state, batch):
            weights = jnp.arange(batch.source.size).reshape(batch.source.shape) % 97
            names = ("tokens", "grad_norm", "learning_rate", "skipped", "streak")
            metrics = dict.fromkeys(names, jnp.zeros((), jnp.int32))
            metrics["loss"] = 1e6 * len(batch.source) + jnp.sum(weights * batch.source)
            return state._replace(step=state.step + 1), metrics

        def shapes():
            return jax.eval_shape(init, 0)

        specs = {"table": jax.sharding.PartitionSpec(None)}
        functions = dict(init=init, shapes=shapes, train_step=train_step)
        return real._replace(**functions, specs=specs)

    program_build = functools.cache(program.build)
    monkeypatch.setattr(program, "build", build)
    monkeypatch.setattr(finish, "finish", lambda run, log: {})
    monkeypatch.setattr(
        TranslationEvaluator, "during", lambda self, params, **_: ({"nll": 1.0}, [])
    )


@functools.cache
def traced_step(experiment):
    """The train step of a tiny model, without its data."""
    built = program.build(experiment.complete(Vocabulary))
    state = built.shapes()
    micro = experiment.train.accumulate_steps
    batch = jax.tree.map(
        lambda x: np.ones((micro, 2, 3), np.int32), translation.example()
    )
    return traced((built.init, (0,)), (built.train_step, (state, batch)))


TRACED = ("label_smoothing", "ema_decay", "skip_limit", "skip_sigma")
TRACED = tuple(f"train.{name}" for name in TRACED)


@pytest.mark.parametrize("knob", TRACED)
def test_every_knob_of_the_train_step_changes_the_traced_program(knob):
    before, after = map(traced_step, changed(knob, RUN))
    assert before != after


@pytest.mark.parametrize("knob", sorted(RUN.keys() - set(TRACED)))
def test_every_knob_of_the_loop_changes_what_a_run_does(knob, stub, tmp_path):
    seen = []
    for i, experiment in enumerate(changed(knob, RUN, train__total_steps=6)):
        workdir = tmp_path / str(i)
        loop.train(experiment.as_dict(), workdir)
        records = [
            (r["step"], r["kind"], r.get("loss"))
            for r in read_history(workdir)
            if r["kind"] != "start"
        ]
        saved = sorted(path.name for path in (workdir / "checkpoints").iterdir())
        seen.append((records, saved))
    assert seen[0] != seen[1]


@pytest.mark.parametrize("knob", sorted(EVAL.keys() - AT_THE_END))
def test_every_knob_of_the_evaluation_changes_what_is_decoded(knob, monkeypatch):
    calls = []

    def decode(model, params, sources, **options):
        calls.append((len(sources), options | {"on_batch": None}))
        return [([np.array([1])], None, None) for _ in sources]

    monkeypatch.setattr(workloads.translation, "decode", decode)
    monkeypatch.setattr(
        workloads.evaluator,
        "eval_batches",
        lambda *_, **options: calls.append(options["batch_tokens"]) or [],
    )
    seen = []
    for experiment in changed(
        f"eval.{knob}", {f"eval.{knob}": EVAL[knob]}, eval__sentences=4
    ):
        data = prepare(pairs.KIND, experiment.data, experiment.tokenizer)
        experiment = experiment.complete(data.tokenizer)
        calls.clear()
        mesh = make_mesh(experiment.mesh)
        evaluator = experiment.workload.make_evaluator(experiment, data, mesh)
        evaluator.during({})
        seen.append(list(calls))
    assert seen[0] != seen[1]


def test_samples_are_shown_and_the_last_checkpoints_averaged(
    monkeypatch, tmp_path, capsys
):
    """``eval.samples`` and ``eval.average_last``, where a run ends."""
    finish.show("valid", Scored({"bleu": 1.0}, lines=("a -> b",) * EVAL["samples"]))
    assert capsys.readouterr().out.count("a -> b") == EVAL["samples"]
    for step in (1, 2, 3):
        (tmp_path / "checkpoints" / f"{step:06d}").mkdir(parents=True)
    averaged = []
    monkeypatch.setattr(finish.weights, "verify", lambda path: [])  # they are sound
    monkeypatch.setattr(
        finish.weights,
        "average",
        lambda folders, **_: averaged.extend(folders) or {"table": np.ones(1)},
    )
    state = init_state(
        {"table": jnp.zeros(1)}, make_optimizer(OptimConfig(), 1), 0, ema=False
    )
    eval_cfg = resolve(get_config()).eval
    last = dataclasses.replace(eval_cfg, average_last=EVAL["average_last"])
    assert finish.final_params(tmp_path, state, eval_cfg)["table"] == 0
    assert finish.final_params(tmp_path, state, last)["table"] == 1
    assert [path.name for path in averaged] == ["000002", "000003"]


def test_pictures_are_drawn_if_they_are_wanted(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(finish, "_draw", lambda workdir, *_: drawn.append(workdir))
    monkeypatch.setattr(finish, "final_params", lambda *_: {})
    usual = resolve(get_config()).eval
    without = dataclasses.replace(usual, pictures=EVAL["pictures"])
    for name, cfg in (("usual", usual), ("without", without)):
        (tmp_path / name).mkdir()
        evaluator = mock.Mock(cfg=cfg, variants={}, pictured=None)
        evaluator.final.return_value = Scored({})
        run = mock.Mock(
            evaluator=evaluator, workdir=tmp_path / name, step=1, stopped=""
        )
        finish.finish(run, None)
    assert drawn == [tmp_path / "usual"]


def test_each_split_has_files_of_its_own(tmp_path):
    knobs = dict(train="train_files", valid="valid_files", test="test_files")
    for split in knobs:
        (tmp_path / f"{split}.tsv").write_text(f"{split}\t{split}\n")
    files = {knob: (str(tmp_path / f"{name}.tsv"),) for name, knob in knobs.items()}
    cfg = pairs.Config(source="parallel", **files)
    for split in knobs:
        assert pairs.load_pairs(cfg, split)[0].source == [split]


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_a_split_of_tfds_is_absent_if_its_name_is(split, tmp_path):
    """``data.tfds_train``, ``data.tfds_valid``, ``data.tfds_test``."""
    cfg = pairs.Config(source="tfds", tfds_data_dir=str(tmp_path))
    with pytest.raises(DataError, match="is not prepared"):
        pairs.load_pairs(cfg, split)
    absent = dataclasses.replace(cfg, **{f"tfds_{split}": ""})
    assert len(pairs.load_pairs(absent, split)[0].source) == 0


def test_cpu_devices_are_as_many_as_asked(monkeypatch):
    asked = {}
    monkeypatch.setattr(jax.config, "update", asked.__setitem__)
    for cpu_devices in (3, 5):
        loop.runtime.prepare(cpu_devices)
        assert asked["jax_num_cpu_devices"] == cpu_devices
    loop.runtime.prepare(0)
    assert 1 <= asked["jax_num_cpu_devices"] <= 8
