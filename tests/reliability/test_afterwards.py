"""What is asked of a run after or beside its training: averages, replays, curves."""

import logging
import shutil
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from tests.reliability import tiny
from tests.workloads import text_runs
from tfm_jax import main
from tfm_jax.config import ConfigError, to_json
from tfm_jax.data.batch import LabelledBatch
from tfm_jax.data.errors import DataError
from tfm_jax.notebook import load_run
from tfm_jax.notebook.run import Run
from tfm_jax.objectives import masked_lm
from tfm_jax.runs import pictures, resume
from tfm_jax.runs.log import MetricsLog
from tfm_jax.runs.process.exits import CorruptCheckpoint, InfrastructureError
from tfm_jax.runs.storage import checkpoint, weights
from tfm_jax.settings import experiment
from tfm_jax.train import finish, loop, modes
from tfm_jax.workloads import WORKLOADS


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A workdir with checkpoints of the steps 1 to 4, of another model than it says."""
    workdir = tmp_path_factory.mktemp("runs") / "run"
    made = experiment.resolve(tiny.get_config(checkpoint__keep=4))
    data = made.workload.prepare(made)
    made = made.complete(data.tokenizer)
    texts = {"config.json": to_json(made.as_dict()), "data_report.json": "{}"}
    texts |= {"tokenizer.json": data.tokenizer.to_json()}
    with checkpoint.Checkpointer(workdir / "checkpoints", made.checkpoint) as run:
        for step in range(1, 5):
            weights_of = {"encoder": {"w": np.full(3, step, np.float32)}}
            run.save(step, {"ema": weights_of, "params": weights_of}, extras=texts)
    return workdir


@pytest.fixture
def workdir(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize(
    "flags",
    [
        "--mode=eval",
        "--mode=eval --checkpoint=3",
        "--mode=average --last=2",
        "--mode=translate",
        "--extend=5",
    ],
)
def test_a_run_whose_checkpoints_are_all_corrupt_says_so(flags, workdir, capsys):
    """They have been set aside by the training that could not go on."""
    folders = weights.numbered(workdir / "checkpoints")
    shutil.copy(folders[0] / "config.json", workdir)
    for folder in folders:
        folder.rename(folder.with_name(f"{folder.name}.corrupt"))
    with pytest.raises(CorruptCheckpoint, match="is corrupt: 000001.corrupt, 000002"):
        load_run(workdir)
    assert main.main([f"--workdir={workdir}", *flags.split()]) == 65
    said = capsys.readouterr().err
    assert "is corrupt: 000001.corrupt, 000002.corrupt" in said


def test_a_checkpoint_that_is_corrupt_is_no_choice_and_is_named(workdir, capsys):
    folder = workdir / "checkpoints" / "000003"
    shutil.copy(folder / "config.json", workdir)
    folder.rename(f"{folder}.corrupt")
    assert main.main([f"--workdir={workdir}", "--mode=eval", "--checkpoint=3"]) == 78
    said = capsys.readouterr().err
    assert "--checkpoint=3: it is corrupt, and called 000003.corrupt" in said
    assert "choose from (000001, 000002, 000004)" in said


def test_an_average_is_made_as_often_as_asked(workdir):
    """And a damaged checkpoint is left out."""
    paths = weights.numbered(workdir / "checkpoints")
    for last in (2, 2, 3):
        where = modes.average(workdir, config=None, last=last)
        mean = weights.average(paths[-last:], ema=True)
        equal(checkpoint.load_params(where, ema=True), mean)
    (paths[-1] / "config.json").write_text("{}")
    where = modes.average(workdir, config=None, last=2)
    assert where.name == paths[-2].name
    equal(
        checkpoint.load_params(where, ema=True), weights.average(paths[-3:-1], ema=True)
    )
    with pytest.raises(ConfigError, match="--last=9, but .* has 3 sound checkpoints"):
        modes.average(workdir, config=None, last=9)


@pytest.mark.parametrize("attempts", [1, 2])
def test_an_average_beside_a_training_is_read_again_or_given_up_in_words(
    workdir, monkeypatch, attempts
):
    """The training deletes a checkpoint between the look at it and the reading."""
    average, tries = weights.average, []

    def beside(paths, **options):
        tries.append(paths)
        if len(tries) == 1:
            shutil.rmtree(paths[0])
        return average(paths, **options)

    monkeypatch.setattr(weights, "average", beside)
    monkeypatch.setattr(modes, "ATTEMPTS", attempts)
    if attempts == 1:
        with pytest.raises(InfrastructureError, match="checkpoint.keep must be well"):
            modes.average(workdir, config=None, last=2)
    else:
        assert modes.average(workdir, config=None, last=2).exists()
        assert tries[0][0] not in tries[1] and len(tries) == 2


def test_the_average_at_the_end_is_of_sound_checkpoints(workdir, caplog):
    """A damaged one is no reason to lose the training."""
    paths = weights.numbered(workdir / "checkpoints")
    (paths[-1] / "config.json").write_text("{}")
    count = len(paths)
    like = checkpoint.load_params(paths[0])
    state = SimpleNamespace(params=like, ema=jax.tree.map(jax.numpy.asarray, like))
    with caplog.at_level(logging.WARNING):
        cfg = SimpleNamespace(average_last=count)
        params = finish.final_params(workdir, state, cfg)
    equal(params, weights.average(paths[:-1], ema=True))
    said = [record.getMessage() for record in caplog.records]
    assert "config.json" in said[0] and f"has {count - 1} sound checkpoints" in said[1]


def test_history_is_found_wherever_the_checkpoints_were_moved(workdir, tmp_path):
    with MetricsLog(workdir, trackers=()) as log:
        log.write(1, "train", {"loss": 2.0})
    shutil.move(workdir / "checkpoints", tmp_path / "scratch")
    (workdir / "checkpoints").symlink_to(tmp_path / "scratch")
    shutil.move(tmp_path / "scratch" / "000003", tmp_path / "000003")
    (tmp_path / "scratch" / "000003").symlink_to(tmp_path / "000003")
    for path in (workdir, workdir / "checkpoints" / "000003"):
        found = Run(weights.find(path), None, None, {}, None)
        assert found.workdir == workdir
        assert len(found.history) == 1


EMPTY = [{"step": 1, "kind": "train", "loss": 2.0}, {"step": 1, "kind": "valid"}]
TORN = [{"step": 1, "kind": "train", "loss": {}}, {"step": 2, "kind": "train"}]


@pytest.mark.parametrize(("history", "lines"), [(EMPTY, 1), (TORN, 0), ([], 0)])
def test_a_curve_is_drawn_of_what_there_is(history, lines):
    """Of the training alone where nothing is held out."""
    (axis,) = pictures.curve(history, WORKLOADS["translation"]).axes
    assert len(axis.lines) == lines


@pytest.mark.parametrize("workload", WORKLOADS.values(), ids=WORKLOADS)
def test_a_curve_has_the_loss_of_its_own_workload(workload):
    score, *_ = workload.scores
    history = [
        {"step": 1, "kind": "train", "loss": 2.0},
        {"step": 1, "kind": "valid", score: 1.0, "accuracy": 0.5},
    ]
    (axis,) = pictures.curve(history, workload).axes
    assert [line.get_label() for line in axis.lines] == ["train loss", f"valid {score}"]
    assert axis.get_ylabel() == workload.loss_unit
    images = workload.counted == "images"
    assert images == (workload.name in ("classify_images", "denoise"))
    assert not (images and "token" in workload.loss_unit)


def test_an_evaluation_of_nothing_is_no_record():
    run = object.__new__(loop.Training)
    run.evaluator = SimpleNamespace(during=lambda params, poll: ({}, {}))
    run.state = SimpleNamespace(ema=None, params={})
    run._evaluate()  # there is neither log nor progress
    assert run._scores == {}


@pytest.fixture
def text(tmp_path):
    text_runs.write_files(tmp_path)
    found = text_runs.get_config("classify", "bert", "classify", tmp_path, labels=4)
    return experiment.resolve(found)


def test_what_a_text_task_was_stopped_for_is_read_back(text, tmp_path):
    ones = np.ones((1, 2, 3), np.int32)
    batch = LabelledBatch(
        ones, ones * 2, None, None, ones[..., 0], np.ones((1, 2), np.float32)
    )
    state = {"params": {"w": np.arange(3.0)}}
    folder = resume.dump_diverged(tmp_path, text, 3, state, batch)
    found_state, found = resume.load_diverged(folder, text, state)
    equal(found_state, state)
    assert type(found) is LabelledBatch
    equal(found, batch)
    (folder / "batch.npz").write_bytes(b"")
    with pytest.raises(CorruptCheckpoint, match="batch.npz"):
        resume.load_diverged(folder, text, state)


def test_a_dump_from_before_they_were_checkpoints_is_read_back(text, tmp_path):
    """One file, in which some fields have other names."""
    config = text_runs.get_config("masked_lm", "bert", "masked_lm", tmp_path)
    made, state = experiment.resolve(config), {"params": {"w": np.arange(3.0)}}
    batch = masked_lm.example()
    folder = tmp_path / "diverged"
    folder.mkdir()
    (folder / "config.json").write_text(to_json(made.as_dict()))
    names = {"target_positions": "places"}
    rows = {f"batch/{names.get(k, k)}": x for k, x in batch._asdict().items()}
    rows = {name: x for name, x in rows.items() if x is not None}
    np.savez(folder / "update.npz", **rows, **{"state/params/w": np.arange(3.0)})
    assert resume.diverged(tmp_path) == folder
    found_state, found = resume.load_diverged(folder, made, state)
    equal(found_state, state)
    assert type(found) is type(batch)
    equal(found, batch)
    content = (folder / "update.npz").read_bytes()
    for damaged in (b"", content[:-30], content[:200] + b"x" * 50 + content[250:]):
        (folder / "update.npz").write_bytes(damaged)
        with pytest.raises(DataError, match="update.npz"):
            resume.load_diverged(folder, made, state)


def test_tables_larger_than_the_tokenizer_go_on(text):
    """``model.vocab=0``: as large as the model that the run started from."""
    tokenizer = SimpleNamespace(vocab=61)
    first = text._replace(model=text.model.__class__(vocab=150, head="classify"))
    again = text._replace(model=text.model.__class__(vocab=0, head="classify"))
    again = again.complete(tokenizer, first.model)
    resume.check_continues(first, again, 1)
    other = text._replace(model=text.model.__class__(vocab=99, head="classify"))
    with pytest.raises(ConfigError, match=r"model.vocab: 150 in .*, 99 now"):
        resume.check_continues(first, other.complete(None, first.model), 1)


@pytest.mark.parametrize(
    "extras", [{}, {"config.json": [], "tokenizer.json": {}, "data.json": {}}]
)
def test_a_checkpoint_that_lacks_what_a_run_needs_is_named(extras, tmp_path):
    with pytest.raises(CorruptCheckpoint, match="has no .*config.json"):
        resume.experiment_of(extras, tmp_path)
