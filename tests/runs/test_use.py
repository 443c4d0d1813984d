"""Runs go on and are used as they were trained: what may differ is a table."""

import dataclasses
import re
from pathlib import Path

import pytest

from tests.reliability.tiny import get_config
from tests.workloads import text_runs
from tfm_jax import main
from tfm_jax.config import ConfigError
from tfm_jax.optim.schedules import SCHEDULES
from tfm_jax.runs import resume
from tfm_jax.runs.storage.weights import find
from tfm_jax.runs.workdir import preflight
from tfm_jax.settings.experiment import knob_types, resolve

TRAINED = resolve(get_config(model__source_vocab=31, model__target_vocab=31))


@pytest.mark.parametrize(
    "knob, value",
    [
        ("model.positions", "rotary"),  # same shapes, other numbers
        ("model.norm_eps", 1e-2),
        ("model.activation", "gelu"),
        ("model.embedding_scale", False),
        ("data.normalize", "moses"),
        ("data.source_language", "fr"),
        ("tokenizer.kind", "byte"),
        ("train.ema_decay", 0.0),
        ("data.numerals_seed", 1),  # would score numbers that were trained on
        ("data.numerals_heldout", 5),
    ],
)
def test_another_use_of_the_parameters_is_refused_by_name(knob, value):
    now = resolve(get_config(**{knob.replace(".", "__"): value}))
    words = f"trained otherwise; {knob}: .* in the checkpoint, {value!r} now"
    with pytest.raises(ConfigError, match=words):
        resume.used(TRAINED, now)


@pytest.mark.parametrize(
    "knob, value",
    [
        ("eval.beam", 5),
        ("data.source", "parallel"),
        ("data.test_files", ("a.tsv",)),
        ("data.target_length", 64),
        ("model.dtype", "bfloat16"),
        ("model.layout", "scanned"),
        ("mesh.cpu_devices", 2),
        ("optim.peak_lr", 1.0),
        ("model.dropout", 0.3),
        ("seed", 3),
    ],
)
def test_what_evaluation_may_change_is_taken(knob, value):
    now = resolve(get_config(**{knob.replace(".", "__"): value}))
    used = resume.used(TRAINED, now)
    section, _, name = knob.rpartition(".")
    assert getattr(getattr(used, section) if section else used, name) == value
    assert used.model.source_vocab == 31, "open vocabularies are the checkpoint's"


def test_every_entry_of_the_table_is_a_knob_of_some_run():
    pairs = [("transformer", "translation"), ("gpt", "causal_lm"), ("bert", "classify")]
    pairs += [("bert", "tag"), ("bert", "span"), ("bert", "masked_lm")]
    knobs = {knob for pair in pairs for knob in knob_types(*pair)}
    assert knobs >= resume.FREE


def test_data_may_lie_elsewhere_at_the_next_start():
    """Its content is compared, of folders as of files."""
    trained = resolve(text_runs.get_config("causal_lm", "gpt", "lm", Path()))
    for name in ("folder", "train_files", "valid_files", "tfds_data_dir"):
        there = getattr(trained.data, name)
        moved = "/elsewhere" if isinstance(there, str) else ("/elsewhere",)
        data = dataclasses.replace(trained.data, **{name: moved})
        resume.check_continues(trained, trained._replace(data=data), 0)
        assert trained.shared() == trained._replace(data=data).shared()


def test_a_run_of_another_task_has_other_sections():
    now = TRAINED._replace(task="causal_lm")
    with pytest.raises(ConfigError, match="task: 'translation' in the checkpoint"):
        resume.used(TRAINED, now)


def longer(schedule, old, new, **changes):
    """Goes on at step 40 with ``new`` total_steps from a run of ``old``."""
    of_both = dict(optim__schedule=schedule)
    before = resolve(get_config(**of_both, train__total_steps=old))
    now = get_config(**of_both, train__total_steps=new, **changes)
    return resume.check_continues(before, resolve(now), 40)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_schedule_that_ends_is_made_longer_on_an_explicit_act_alone(schedule):
    """train.extended_at: the step at which it is; at any other it says nothing."""
    assert longer(schedule, 40, 40) is None
    assert longer(schedule, 100, 40) is None  # ends here
    if not SCHEDULES[schedule].ends:
        made = longer(schedule, 40, 100)
        assert (made.kind, longer(schedule, 100, 50).kind) == ("extended", "shortened")
        assert made.learning_rate == made.learning_rate_before > 0
        assert re.search("the learning rate goes on as before, with .*e-", str(made))
        return
    jumps = r"train.total_steps=100, 40 before.* jumps at step 40 from 0.0e\+00 to "
    with pytest.raises(ConfigError, match=jumps + ".*; train.extended_at=40 says"):
        longer(schedule, 40, 100)
    with pytest.raises(ConfigError, match="jumps at step 40"):
        longer(schedule, 100, 50)
    with pytest.raises(ConfigError, match="jumps at step 40"):
        longer(schedule, 40, 100, train__extended_at=30)
    made = longer(schedule, 40, 100, train__extended_at=40)
    assert re.match(jumps, str(made)) and made.learning_rate > 0


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_run_cannot_become_shorter_than_it_is(schedule):
    with pytest.raises(ConfigError, match="train.total_steps=1, but .* made 40 steps"):
        longer(schedule, 100, 1)


def test_a_workdir_of_another_family_says_which_run_lies_there():
    now = TRAINED._replace(model_name="gpt", task="causal_lm")
    with pytest.raises(ConfigError) as caught:
        resume.check_kind(TRAINED, now, "w/checkpoints/000020")
    assert str(caught.value).startswith(
        "w/checkpoints/000020 is of a run with model_name='transformer', "
        "task='translation', not model_name='gpt', task='causal_lm'"
    )
    resume.check_kind(TRAINED, TRAINED, "w")


def test_home_is_spelled_out_wherever_a_file_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    config = get_config(data__train_files=("~/a.tsv", "b~.tsv"), init_from="~/run")
    made = resolve(config)
    assert made.data.train_files == (f"{tmp_path}/a.tsv", "b~.tsv")
    assert made.init_from == f"{tmp_path}/run"
    assert preflight("~/new") == tmp_path / "new" and (tmp_path / "new").is_dir()
    values, _ = main.parse(["--workdir=~/x", "--mode=eval", "--input=~/y"])
    assert (values.workdir, values.input) == (f"{tmp_path}/x", f"{tmp_path}/y")
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        find("~/new")
