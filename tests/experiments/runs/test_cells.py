import dataclasses
import functools
import shlex
import types

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.runs import cells, identity
from experiments.study import Typed, axis
from tests.experiments.test_study import study
from tfm_jax import api, main
from tfm_jax import config as configs
from tfm_jax.config import ConfigError
from tfm_jax.settings.experiment import resolve

SMALL_CONFIG = "configs/transformer_numerals_small.py"
SMALL = {
    "data.numerals_max": 300,
    "data.numerals_train": 50,
    "data.numerals_heldout": 10,
    "tokenizer.vocab": 280,
}


@pytest.fixture(autouse=True)
def at_root(monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)


def ids(root, made=None, chosen=(), **changes):
    made = made or study(settings=SMALL, **changes)
    known = [*cells.trials(made, root), *cells.finals(made, root, dict(chosen))]
    return {c.directory.name: c for c in known}


def test_an_id_depends_on_what_changes_numbers_and_on_nothing_else(tmp_path):
    base = {c.id for c in ids(tmp_path).values()}
    assert len(base) == 6

    def with_settings(**changes):
        found = ids(tmp_path / "b", study(settings={**SMALL, **changes}))
        return {c.id for c in found.values()}

    for cosmetic in (
        {"checkpoint.every_steps": 7},
        {"train.log_every_steps": 3},
        {"eval.samples": 0},
        {"data.prefetch": 0},
        {"data.timeout_seconds": 9.0},
        {"optim.peak_lr": 0.002},  # the value it has anyway
    ):
        assert with_settings(**cosmetic) == base, cosmetic
    for semantic in (
        {"optim.peak_lr": 0.003},
        {"train.total_steps": 999},
        {"data.numerals_seed": 1},
        {"tokenizer.vocab": 270},
    ):
        assert not with_settings(**semantic) & base, semantic


@pytest.mark.parametrize(
    "config, name",
    [
        ("configs/transformer_numerals.py", "bde1fc66d276"),
        ("configs/transformer_numerals_small.py", "9da38cda5971"),
    ],
)
def test_a_run_is_called_as_it_was_before_later_knobs(config, name):
    """Names that the release before these knobs gave; studies find their runs."""
    made = resolve(configs.load(config))
    assert identity.identity(made) == name
    spikes = dataclasses.replace(made.train, skip_sigma=4.0)
    assert identity.identity(made._replace(train=spikes)) != name


@pytest.mark.parametrize(
    "config, name",
    [
        ("gpt2_small:tiny", "153bc8490476"),
        ("bert_base:tiny", "0c744ef4a93f"),
        ("qformer_scenes", "e33d16421d71"),
        ("flamingo_scenes", "7d4c9b406254"),
        ("blip2_qformer", "56d854c1c19d"),
    ],
)
def test_knobs_that_came_later_are_in_no_name_of_any_family(config, name, monkeypatch):
    """Names that were given before, of data that is the same everywhere."""
    same = types.SimpleNamespace(fingerprint="data")
    monkeypatch.setattr(identity, "prepare", lambda experiment: same)
    made = cells.configure(config, {})
    assert identity.identity(made) == name


def test_a_knob_that_one_family_had_before_stays_in_its_names():
    made = cells.configure(SMALL_CONFIG, {"model.embedding_scale": False})
    assert identity.identity(made) == "2ef6f96656e6"


def test_a_run_is_called_as_it_was_when_its_knobs_had_other_names():
    settings = {"optim.lr_multipliers": ("decoder=0.5",)}
    settings |= {"mesh.gradient_allreduce": "fused"}
    made = cells.configure(SMALL_CONFIG, settings)
    assert identity.identity(made) == "5a01151a43b4"  # of optim.rates, mesh.exchange


def test_how_images_are_drawn_and_judged_is_in_the_name_of_a_run_that_draws():
    made = cells.configure("configs/dit_digits.py", {})
    name = identity.identity(made)
    for knob, value in (
        ("data.sampler.guidance", 2.0),
        ("data.noise.grey_levels", 256),
        ("eval.samples", 7),
        ("eval.judge", "runs/digits"),
    ):
        changed = cells.configure("configs/dit_digits.py", {knob: value})
        assert identity.identity(changed) != name, knob
    shown = cells.configure("configs/dit_digits.py", {"eval.pictures": False})
    assert identity.identity(shown) == name


def test_a_judge_is_what_it_has_learnt_wherever_it_lies(monkeypatch):
    loaded = configs.load("configs/dit_digits.py:smoke")

    def name(path, learnt):
        monkeypatch.setattr(identity, "judge_name", lambda path: learnt)
        loaded.eval.judge = path
        return identity.identity(resolve(loaded))

    assert name("runs/a", "vit 1") == name("runs/b", "vit 1") != name("runs/a", "vit 2")
    assert name("runs/a", "") != name("runs/b", "")  # none is there yet


def test_new_arms_seeds_and_axes_change_no_id(tmp_path):
    before = {c.id for c in ids(tmp_path).values()}
    more = axis("model.norm", ("pre", "post", "sandwich"))
    after = {c.id for c in ids(tmp_path, arms=more, seeds=(0, 1, 2, 3)).values()}
    assert before < after
    listed = {name: {**knobs, "model.heads": 4} for name, knobs in more.items()}
    assert before < {c.id for c in ids(tmp_path, arms=listed, seeds=range(4)).values()}


def test_the_same_content_elsewhere_is_the_same_run(tmp_path):
    made = []
    for place in ("here", "there"):
        file = tmp_path / place / "pairs.tsv"
        file.parent.mkdir()
        file.write_text("one\teins\ntwo\tzwei\nthree\tdrei\n" * 20)
        settings = {"data.source": "parallel", "data.train_files": (str(file),)}
        made.append(study(settings={**settings, "tokenizer.vocab": 270}))
    first, second = ([c.id for c in ids(tmp_path, m).values()] for m in made)
    assert first == second
    file.write_text("one\tuno\n" * 60)
    api._prepared.cache_clear()
    assert not set(first) & {c.id for c in ids(tmp_path, made[1]).values()}


def test_a_repeated_run_has_an_id_of_its_own(tmp_path):
    found = ids(tmp_path, identical=(0,))
    [again] = [c for c in found.values() if c.phase == cells.IDENTICAL]
    [first] = [c for c in found.values() if c[1:4] == ("pre", 0, cells.FINAL)]
    assert again.id != first.id and again.directory != first.directory
    assert again.experiment == first.experiment


def test_what_follows_from_the_tuning_is_known_once_it_has_ended(tmp_path):
    tuned = study(
        settings=SMALL,
        fixed_rate="",
        tune={"optim.peak_lr": (1e-3, 2e-3), "optim.warmup_steps": (10, 20, 30)},
        tune_seeds=(100, 101),
    )
    trials = ids(tmp_path, tuned).values()
    assert len(trials) == 2 * 6 * 2 and {c.phase for c in trials} == {cells.TUNE}
    knobs = {"optim.peak_lr": 1e-3, "optim.warmup_steps": 20}
    later = [
        c
        for c in ids(tmp_path, tuned, chosen={"post": knobs}).values()
        if c.phase == cells.FINAL
    ]
    assert [(c.arm, c.seed) for c in later] == [("post", s) for s in (0, 1, 2)]
    assert all(c.settings["optim.peak_lr"] == 1e-3 for c in later)


@pytest.mark.parametrize("program", ["tfm_jax.main", "experiments.probes"])
def test_the_command_shown_is_the_run(tmp_path, program):
    probe = "" if program == "tfm_jax.main" else "gradients"
    made = study(settings={**SMALL, "data.bucket_lengths": (8, 16)}, probe=probe)
    cell = ids(tmp_path, made).popitem()[1]
    python, flag, module, *argv = shlex.split(cell.shown)
    assert (python, flag, module) == ("python", "-m", program)
    argv = [a for a in argv if not a.startswith("--probe=")]
    assert resolve(main.load_config(*main.parse(argv))) == cell.experiment
    assert f"--workdir={cell.directory}" in argv


@pytest.mark.parametrize(
    "arm, words",
    [
        ({"model.nrom": "pre"}, "did you mean"),
        ({"model.norm": "middle"}, "choose from"),
        ({"train.total_steps": "many"}, "total_steps"),
        ({"model": "x"}, "replace the whole section"),
    ],
)
def test_one_typo_stops_all_before_anything_runs(tmp_path, arm, words):
    with pytest.raises(ConfigError) as error:
        ids(tmp_path, arms={"good": {}, "typo": arm}, baseline="good", expect=study(
            arms={"good": {}, "typo": {}}, baseline="good",
            expect=(dataclasses.replace(study().expect[0], arms=("good", "typo")),),
        ).expect)  # fmt: skip
    assert words in str(error.value) and "typo" in str(error.value)


TEXTS = st.text() | st.sampled_from(
    [
        "0,1",
        "a,b.tsv",
        "(a|b)+$",
        "'x'",
        '"',
        "",
        " ",
        "\n",
        "None",
        "{}",
        "-1",
        "$HOME",
    ]
)


@hypothesis.settings(max_examples=30)
@given(
    st.fixed_dictionaries(
        {
            "data.train_files": st.lists(TEXTS).map(tuple),
            "freeze": st.sampled_from(["", "^(a|b),.*[\"' ]$", "encoder/.*", "\n"]),
            "init_from": TEXTS,
            "optim.peak_lr": st.floats(1e-9, 1.0),
            "data.bucket_lengths": st.sets(st.integers(1, 99), min_size=1).map(
                lambda some: tuple(sorted(some))
            ),
            "train.total_steps": st.integers(1, 10**9),
        }
    )
)
def test_what_a_study_sets_is_what_its_runs_read(settings):
    """Written, quoted for a shell, split by it and read."""
    argv = shlex.split(shlex.join(cells.flags(settings)))
    values = main.parse([f"--config={SMALL_CONFIG}", *argv])
    read = main.load_config(*values)
    for knob, value in settings.items():
        *outer, last = knob.split(".")
        section = functools.reduce(getattr, outer, read)
        assert section[last] == value and type(section[last]) is type(value)


def test_text_of_the_command_line_is_passed_on_as_it_is():
    text = "'a,b.tsv',c.tsv"
    assert cells.flags({"x": Typed(text)}) == (f"--config.x={text}",)


def test_no_value_makes_a_folder_below_the_study(tmp_path):
    tuned = study(
        settings=SMALL,
        fixed_rate="",
        tune={"eval.length_penalty": (0.5, 0.6), "freeze": ("", "a/b\nc" + "d" * 300)},
        tune_seeds=(7,),
    )
    for cell in cells.trials(tuned, tmp_path):
        assert cell.directory.parent == tmp_path and "\n" not in cell.directory.name
        assert len(cell.directory.name) < 250


def test_values_reach_the_command_line_as_they_are():
    found = cells.flags({"a": (1, 2), "b": True, "c": (), "d": 1e-05, "e": "x"})
    assert found == (
        "--config.a=1,2",
        "--config.b=true",
        "--config.c=()",
        "--config.d=1e-05",
        "--config.e=x",
    )
    assert configs.check_argv(found) == list(found)


def test_an_arm_may_start_from_another_configuration(tmp_path):
    other = "configs/transformer_numerals.py:small"
    arms = {"small": {}, "wide": {"config": other}}
    finals = cells.finals(
        study(settings=SMALL, arms=arms, baseline="small", expect=(), seeds=(0,)),
        tmp_path,
        {},
    )
    assert [cell.experiment.model.width for cell in finals] == [128, 256]
    assert f"--config={other}" in finals[1].command
    assert not any(flag.startswith("--config.config") for flag in finals[1].command)
    with pytest.raises(ConfigError, match="arm 'none': .*no_such_file"):
        none = {"none": {"config": "configs/no_such_file.py"}}
        cells.finals(study(arms=none, baseline="none", expect=()), tmp_path, {})
