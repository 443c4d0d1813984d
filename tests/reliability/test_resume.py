"""A run that was stopped ends bit for bit like one that was not.

Also a file for ``--config``: the tiny run, in half of the steps.
"""

import os
import pathlib
import shutil
import signal

import jax
import jax.numpy as jnp
import pytest

from tests.reliability import tiny
from tfm_jax import main
from tfm_jax.data import batches, cache
from tfm_jax.data.sources import numerals
from tfm_jax.runs.log import MetricsLog, read_history
from tfm_jax.runs.process import exits
from tfm_jax.runs.storage import arrays, manifest
from tfm_jax.runs.storage.checkpoint import Checkpointer, Config
from tfm_jax.train import program
from tfm_jax.workloads import evaluator

CFG = Config()
STEPS = 20


def get_config():
    """Epochs and evaluations are 8 steps long, checkpoints come every 7."""
    return tiny.get_config(
        data__numerals_train=128,
        train__total_steps=STEPS,
        eval__every_steps=8,
        checkpoint__every_steps=7,
    )


def run(workdir, **how):
    return tiny.run(workdir, get_config(), **how)


@pytest.fixture(scope="module", autouse=True)
def quick():
    with tiny.quick():
        yield


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "unbroken"
    assert run(workdir)
    return workdir


@pytest.fixture(scope="module")
def wanted(unbroken):
    return tiny.digests(unbroken)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run that was stopped after step 11, to be copied."""
    workdir = tmp_path_factory.mktemp("runs") / "stopped"
    assert not run(workdir, stop=(11,))
    return workdir


# the first step; inside an epoch; where a checkpoint, and where an evaluation and the
# end of an epoch are due; between all of these; the last but one and the last step
@pytest.mark.parametrize("cut", [1, 5, 7, 8, 11, 19, 20])
def test_a_run_stopped_anywhere_goes_on_bit_for_bit(wanted, tmp_path, cut):
    assert not run(tmp_path, stop=(cut,))
    assert max(Checkpointer(tmp_path / "checkpoints", CFG).steps()) == cut
    assert run(tmp_path)
    assert tiny.digests(tmp_path) == wanted


def test_a_chain_of_stops_ends_bit_for_bit_the_same(wanted, tmp_path):
    starts = 1
    while not run(tmp_path, stop=range(2, STEPS, 3)):
        starts += 1
    assert starts == 7
    assert tiny.digests(tmp_path) == wanted


def test_a_run_stopped_in_an_evaluation_repeats_it(wanted, tmp_path, monkeypatch):
    evaluate = tiny.loop.Training._evaluate

    def stopped(run):
        run.stop._requested = True
        return evaluate(run)

    with monkeypatch.context() as patch:
        patch.setattr(tiny.loop.Training, "_evaluate", stopped)
        assert not run(tmp_path)
    assert all(record["kind"] != "valid" for record in read_history(tmp_path))
    assert run(tmp_path)
    assert tiny.digests(tmp_path) == wanted


def test_a_checkpoint_has_the_scores_of_the_newest_evaluation(unbroken, stopped):
    """Evaluations are due every 8 steps, checkpoints every 7; a stop comes at 11."""
    for workdir in (unbroken, stopped):
        valid = [r for r in read_history(workdir) if r["kind"] == "valid"]
        with Checkpointer(workdir / "checkpoints", CFG) as checkpoints:
            for step in checkpoints.steps():
                earlier = [r["nll"] for r in valid if r["step"] <= step]
                assert checkpoints.metrics(step).get("nll") == (earlier or [None])[-1]
            assert checkpoints.metrics(step)


def test_a_resumed_run_remembers_the_scores(stopped, tmp_path):
    workdir = shutil.copytree(stopped, tmp_path / "run")
    assert not run(workdir, stop=(12,))
    with Checkpointer(workdir / "checkpoints", CFG) as checkpoints:
        assert checkpoints.metrics(12) == checkpoints.metrics(11) != {}


def test_the_number_of_a_checkpoint_counts_updates_and_batches(unbroken):
    with Checkpointer(unbroken / "checkpoints", CFG) as checkpoints:
        for step in checkpoints.steps():
            path = checkpoints.path(step)
            named = arrays.read(path / "state", manifest.read(path)["tree"])
            counts = {k: v for k, v in named.items() if k.endswith("/count")}
            assert len(counts) >= 1
            for count in (named["step"], *counts.values()):
                assert count == step
            assert checkpoints.extras(step)["data.json"]["next_batch"] == step


def without_counts(opt_state):
    return jax.tree.map(lambda x: x * 0 if x.ndim == 0 else x, opt_state)


def moments_only(opt_state):
    return jax.tree.map(lambda x: x * 0 if x.ndim else x, opt_state)


FAULTS = {  # what a restore could get wrong without anybody noticing
    "the optimizer's moments are dropped": lambda state: state._replace(
        opt_state=moments_only(state.opt_state)
    ),
    "the optimizer's and the schedule's counts start again": lambda state: (
        state._replace(opt_state=without_counts(state.opt_state))
    ),
    "the moving average is dropped": lambda state: state._replace(
        ema=jax.tree.map(jnp.copy, state.params)
    ),
    "the dropout key is reset": lambda state: state._replace(rng=state.rng + 1),
    "the parameters are rounded": lambda state: state._replace(
        params=jax.tree.map(
            lambda x: x.astype(jnp.bfloat16).astype(x.dtype), state.params
        )
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_comparison_notices_that(wanted, stopped, tmp_path, monkeypatch, fault):
    restore = Checkpointer.restore

    def faulty(self, step, target):
        state = FAULTS[fault](restore(self, step, target))
        return jax.tree.map(lambda x, t: jax.device_put(x, t.sharding), state, target)

    monkeypatch.setattr(Checkpointer, "restore", faulty)
    assert_noticed(wanted, stopped, tmp_path)


@pytest.mark.parametrize("shift", ["from the start", "one batch early"])
def test_the_comparison_notices_data_that_go_on(
    wanted, stopped, tmp_path, monkeypatch, shift
):
    change = {"from the start": -11, "one batch early": -1}[shift]
    set_state = batches.TrainBatches.set_state

    def faulty(self, state):
        set_state(self, state | {"next_batch": state["next_batch"] + change})
        self._next = state["next_batch"]  # what is saved looks right

    monkeypatch.setattr(batches.TrainBatches, "set_state", faulty)
    changed = assert_noticed(wanted, stopped, tmp_path)
    assert "data" not in changed


def assert_noticed(wanted, stopped, tmp_path):
    workdir = shutil.copytree(stopped, tmp_path / "run")
    assert run(workdir)
    found = tiny.digests(workdir)
    changed = {name for name in wanted if wanted[name] != found[name]}
    assert {"params", "opt_state", "ema", "records"} & changed
    return changed


def test_a_step_counted_twice_is_never_saved(stopped, tmp_path, monkeypatch):
    workdir = shutil.copytree(stopped, tmp_path / "run")
    restore = Checkpointer.restore

    def faulty(self, step, target):
        state = restore(self, step, target)
        return state._replace(step=state.step + 1)

    monkeypatch.setattr(Checkpointer, "restore", faulty)
    with pytest.raises(ValueError, match="refusing to save step 14: state.step=15"):
        run(workdir)


@pytest.fixture
def config_file(stopped, tmp_path):
    """Flags of a command line on a copy of the stopped run."""
    workdir = shutil.copytree(stopped, tmp_path / "run")
    return [f"--config={__file__}", f"--workdir={workdir}"]


CHANGES = {  # flag -> what the error says
    "model.dropout=0.2": "model.dropout: 0.1 in the checkpoint, 0.2 now",
    "optim.peak_lr=0.1": "optim.peak_lr: 0.01 in the checkpoint, 0.1 now",
    "seed=1": "seed: 0 in the checkpoint, 1 now",
    "train.accumulate_steps=1": "train.accumulate_steps: 2 in the checkpoint, 1 now",
    "tokenizer.kind=byte": "tokenizer.kind: 'character' in the checkpoint, 'byte' now",
    "mesh.gradient_allreduce=fused": "mesh.gradient_allreduce: 'per_array' in the "
    "checkpoint, 'fused' now",
    "data.numerals_train=99": "data.numerals_train: 128 in the checkpoint, 99 now",
}


def test_a_change_of_substance_is_refused_field_by_field(config_file, capsys):
    """All at once: each is named, and nothing in the workdir changes."""
    _, workdir = config_file
    before = contents(workdir)
    flags = [f"--config.{flag}" for flag in CHANGES]
    assert main.main([*config_file, *flags]) == exits.BAD_CONFIG
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    for words in CHANGES.values():
        assert words in err
    assert contents(workdir) == before


@pytest.mark.parametrize("flag", CHANGES)
def test_each_change_of_substance_is_refused_alone(config_file, capsys, flag):
    assert main.main([*config_file, f"--config.{flag}"]) == exits.BAD_CONFIG
    err = capsys.readouterr().err
    assert CHANGES[flag] in err and err.count(" in the checkpoint, ") == 1


def contents(flag):
    folder = pathlib.Path(flag.partition("=")[2])
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path: path.read_bytes() for path in files}


def test_other_data_is_refused_by_its_fingerprint(
    config_file, capsys, monkeypatch, tmp_path
):
    spell = numerals.spell
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # prepared anew

    def changed(numbers, language, knob):
        lines = spell(numbers, language, knob)
        return [line.replace("seven", "eight") for line in lines]

    monkeypatch.setattr(numerals, "spell", changed)
    assert main.main(config_file) == exits.BAD_CONFIG
    err = capsys.readouterr().err
    assert "cannot continue the data of this checkpoint; data: " in err
    assert err.count("\n") == 1


def test_a_run_can_be_made_longer(config_file):
    """By its workdir alone: more steps, and other knobs that alter no update."""
    _, workdir = config_file
    flags = ["train.total_steps=14", "eval.every_steps=13", "train.log_every_steps=1"]
    assert main.main([workdir, *(f"--config.{flag}" for flag in flags)]) == exits.OK
    history = read_history(workdir.partition("=")[2])
    steps = [record["step"] for record in history if record["kind"] == "train"]
    assert steps == [3, 6, 9, 12, 13, 14]
    speeds = {r["step"]: r.get("tokens_per_second") for r in history}
    assert speeds[12] is None, "step 12 was compiled, and says nothing of the speed"
    assert all(speeds[step] != 0 for step in steps)


def test_a_finished_run_that_is_started_again_says_the_same(unbroken, wanted, tmp_path):
    workdir = shutil.copytree(unbroken, tmp_path / "run")
    assert run(workdir)
    assert tiny.digests(workdir) == wanted


def ask_twice():
    """What a scheduler sends that is in a hurry."""
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGTERM)


def during_compilation(patch):
    build = program.build

    def noisy(experiment):
        def train_step(state, batch):
            ask_twice()  # while it is traced
            return made.train_step(state, batch)

        made = build(experiment)
        return made._replace(train_step=train_step)

    patch.setattr(program, "build", noisy)


def during_training(patch):
    update = tiny.loop.Training.update

    def noisy(run):
        if run.step == 6:
            ask_twice()
        return update(run)

    patch.setattr(tiny.loop.Training, "update", noisy)


def during_evaluation(patch):
    put_whole, calls = evaluator.put_whole, []

    def noisy(*args, **options):
        calls.append(args)
        if len(calls) == 1:
            ask_twice()
        return put_whole(*args, **options)

    patch.setattr(evaluator, "put_whole", noisy)


def during_a_save(patch):
    write, calls = arrays.write, []

    def noisy(directory, host):
        calls.append(directory)
        if len(calls) == 1:
            ask_twice()
        write(directory, host)

    patch.setattr(arrays, "write", noisy)


def test_sigterm_in_any_phase_saves_and_ends_with_75(wanted, tmp_path, monkeypatch):
    """One run, stopped in each phase, ends like one that was not."""
    argv = [f"--config={__file__}", f"--workdir={tmp_path}"]
    argv.append("--config.checkpoint.every_steps=9")  # long before the end
    saved = []
    for phase in (
        during_compilation,
        during_training,
        during_evaluation,
        during_a_save,
    ):
        with monkeypatch.context() as patch:
            phase(patch)
            assert main.main(argv) == exits.PREEMPTED, phase.__name__
        with Checkpointer(tmp_path / "checkpoints", CFG) as checkpoints:
            saved.append(checkpoints.latest_good())
        assert not (tmp_path / "lease.json").exists()
    assert saved[:3] == [1, 7, 8]
    assert 9 <= saved[3] < STEPS
    assert main.main(argv) == exits.OK
    assert tiny.digests(tmp_path) == wanted


def test_sigterm_before_there_is_anything_to_save_ends_with_75(tmp_path, monkeypatch):
    prepare = cache.prepared

    def noisy(*args, **options):
        ask_twice()
        return prepare(*args, **options)

    monkeypatch.setattr(cache, "prepared", noisy)
    argv = [f"--config={__file__}", f"--workdir={tmp_path}"]
    assert main.main(argv) == exits.PREEMPTED
    with Checkpointer(tmp_path / "checkpoints", CFG) as checkpoints:
        assert checkpoints.latest_good() is None


def test_final_scores_are_recorded_once_however_often_a_run_is_started(tmp_path):
    for _ in range(3):
        with MetricsLog(tmp_path, step=40, trackers=()) as log:
            log.write(40, "final_test", {"nll": 1.0})
    assert len(read_history(tmp_path)) == 1
