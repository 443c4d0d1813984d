import dataclasses
import importlib
import inspect
import pkgutil
import re

import pytest

from experiments import studies
from experiments.runs import cells
from experiments.statistics import findings
from experiments.study import (
    KINDS,
    Study,
    axis,
    better,
    chain,
    equivalent,
    grid,
    identical,
    monotone,
    on,
    reported,
    steady,
    within,
    zipped,
)
from tfm_jax import api

NORMS = axis("model.norm", ("pre", "post"))
WARMUPS = axis("optim.warmup_steps", (1, 500), "warmup")
TUNED = dict(tune={"optim.peak_lr": (1e-3,)}, tune_seeds=(9,), fixed_rate="")


def study(**changes):
    score = "accuracy" if changes.get("goal") == "max" else "nll"
    good = dict(
        config="configs/transformer_numerals.py",
        arms=NORMS,
        baseline="pre",
        expect=(better("pre", "post", "pre wins"),),
        seeds=(0, 1, 2),
        metric=f"valid/{score}",
        sesoi=0.01,
        fixed_rate="one rate",
    )
    return Study(**good | changes)


def expects(**changes):
    return dict(expect=(dataclasses.replace(better("pre", "post", ""), **changes),))


def test_every_kind_of_expectation_is_judged():
    assert set(KINDS) == {*findings.PREDICATES, *findings.OF_NOISE}


def test_a_grid_is_every_combination_and_keeps_the_order_of_its_axes():
    assert grid(NORMS, WARMUPS) == {
        "pre-warmup1": {"model.norm": "pre", "optim.warmup_steps": 1},
        "pre-warmup500": {"model.norm": "pre", "optim.warmup_steps": 500},
        "post-warmup1": {"model.norm": "post", "optim.warmup_steps": 1},
        "post-warmup500": {"model.norm": "post", "optim.warmup_steps": 500},
    }
    assert len(grid(NORMS, WARMUPS, axis("seed", range(3)))) == 12


def test_zipped_axes_go_together():
    assert zipped(NORMS, WARMUPS) == {
        "pre-warmup1": {"model.norm": "pre", "optim.warmup_steps": 1},
        "post-warmup500": {"model.norm": "post", "optim.warmup_steps": 500},
    }
    with pytest.raises(ValueError):
        zipped(NORMS, axis("seed", range(3)))


def test_chained_axes_are_one_list_of_arms():
    assert chain(NORMS, WARMUPS) == {**NORMS, **WARMUPS}
    assert chain(grid(NORMS), {}) == NORMS


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: chain(NORMS, NORMS),
        lambda: grid(NORMS, axis("model.norm", ("none",), "x")),
        lambda: zipped(NORMS, axis("model.norm", ("a", "b"), "x")),
    ],
)
def test_nothing_is_silently_merged(wrong):
    with pytest.raises(ValueError):
        wrong()


@pytest.mark.parametrize(
    "change, words",
    [
        (dict(baseline="sandwich"), "baseline='sandwich'; choose from (pre, post)"),
        (dict(arms={"a/b": {}}, baseline="a/b"), "arm 'a/b'"),
        (dict(arms={"a\nb": {}}, baseline="a\nb"), "arm 'a\\nb'"),
        (
            dict(expect=(better("pre", "nobody", ""),)),
            "expect: arm='nobody'; choose from (pre, post)",
        ),
        (dict(goal="least"), "goal='least'; choose from (min, max)"),
        (dict(match="luck"), "match='luck'; choose from"),
        (dict(metric="nll"), "metric='nll'"),
        (dict(sesoi=-1.0), "sesoi=-1.0"),
        (dict(sesoi=float("inf")), "sesoi=inf"),
        (dict(sesoi=0.0, expect=(equivalent("pre", "post", ""),)), "give one"),
        (expects(goal="max"), "goal='max'; that of valid/nll is goal"),
        (dict(seeds=()), "seeds=()"),
        (dict(seeds=(1, 1)), "seeds=(1, 1)"),
        (dict(identical=(7,)), "identical=(7,)"),
        (dict(other_seeds=(0,)), "other_seeds=(0,)"),
        (dict(seeds=("0",)), "seeds=('0',) must be integers"),
        (dict(seeds=(-1,)), "seeds=(-1,)"),
        (dict(other_seeds=(7, 7)), "other_seeds=(7, 7) must be distinct"),
        (dict(settings={"seed": 3}), "settings: seed=3"),
        (expects(kind="best"), "kind='best'; choose from (better,"),
        (expects(arms=("pre",)), "better of arms=('pre',)"),
        (expects(reported=(0.2,)), "reported=0.2 is not better of ('pre', 'post')"),
        (
            dict(goal="max", expect=(reported(better("pre", "post", ""), -0.2),)),
            "reported=-0.2 is not better of ('pre', 'post')",
        ),
        (
            dict(expect=(reported(monotone(("pre", "post"), ""), -0.2, 0.0),)),
            "one of each difference",
        ),
        (
            dict(expect=(reported(monotone(("pre", "post"), ""), 0.0),)),
            "reported=0 is not monotone of ('pre', 'post')",
        ),
        (
            dict(expect=(reported(equivalent("pre", "post", ""), -0.02),)),
            "reported=-0.02 is not equivalent of ('pre', 'post'), from -0.01 to 0.01",
        ),
        (
            dict(expect=(reported(within("pre", 1.0, 2.0, ""), 3.0),)),
            "reported=3 is not within of ('pre',), from 1 to 2",
        ),
        (expects(arms=("pre", "pre")), "2 distinct ones"),
        (expects(goal="least"), "expect: goal='least'"),
        (expects(metric="nll"), "expect: metric='nll'"),
        (expects(metric="a/nll - nll"), "write split/score, or split/score - split"),
        (dict(metric="a/nll - b/nll"), "metric='a/nll - b/nll'; write split/score,"),
        (dict(expect=(within("pre", 2.0, 1.0, ""),)), "within low=2.0 and high=1.0"),
        (dict(expect=(steady("pre", ""),)), "steady needs seeds in other_seeds"),
        (dict(expect=(identical("pre", ""),)), "needs seeds in identical"),
        (dict(expect=(identical("post", ""),)), "is of baseline='pre'"),
        (dict(tune={"model.norm": ("pre",)}), "but tune says what it is"),
        (dict(metric="valid/accuracy"), "goal='min', but more of valid/accuracy is"),
        (
            dict(expect=(on("valid/accuracy", better("pre", "post", "")),)),
            "expect: goal='min', but more of valid/accuracy is better",
        ),
        (dict(seeds=3), "seeds=3; write several of them, (0, 1, 2)"),
        (dict(sesoi=None), "sesoi=None; write a number"),
        (dict(caveat=3), "caveat=3; write text"),
        (dict(arms={"pre": [], "post": {}}), "arms: pre=[]; write its settings"),
        (dict(tune={"optim.schedule": "cosine"}), "write several values, or a range"),
        (dict(expect=better("pre", "post", "")), "write several of them, (better("),
        (dict(tune={"optim.peak_lr": ()}), "optim.peak_lr=() must be distinct"),
        (dict(tune={"optim.peak_lr": (1, 1)}), "one at least"),
        (dict(tune={"optim.peak_lr": (1e-3,)}), "fixed_rate='one rate' and tune="),
        (
            TUNED | dict(tune_seeds=(0,)),
            "tune_seeds=(0,)",
        ),
        (TUNED | dict(metric="test/nll"), "tuning needs a score of validation data"),
        (TUNED | dict(metric="first_test/nll"), "tuning needs a score of validation"),
        (
            TUNED | dict(metric="probe/slope", probe="gradients"),
            "tuning needs a score of validation data",
        ),
    ],
)
def test_a_study_that_cannot_be_trusted_is_refused(change, words):
    with pytest.raises(ValueError) as error:
        study(**change)
    assert words in str(error.value)


def test_every_mistake_is_named_at_once():
    with pytest.raises(ValueError) as error:
        study(goal="least", sesoi=-1.0)
    assert "goal" in str(error.value) and "sesoi" in str(error.value)


def test_seeds_and_looks_may_be_a_list_or_a_range():
    made = study(seeds=range(3), looks=[3, 6])
    assert (made.seeds, made.looks) == ((0, 1, 2), (3, 6))


def test_a_variant_of_the_validation_data_may_choose_the_rate():
    assert study(**TUNED, metric="masked/nll").tune == TUNED["tune"]


def test_a_study_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        study().seeds = (1,)


NAMES = sorted(module.name for module in pkgutil.iter_modules(studies.__path__))


@pytest.mark.parametrize("scale", ["cpu", "gpu"])
@pytest.mark.parametrize("name", NAMES)
def test_every_arm_of_every_study_is_a_legal_configuration(name, scale, request):
    """Where the data lies is for the user to say, so nothing is prepared."""
    module = importlib.import_module(f"experiments.studies.{name}")
    study = module.get_study(scale)
    for other in getattr(module, "SCALES", studies.SCALES):
        assert isinstance(module.get_study(other), Study)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(request.config.rootpath)
        for arm in study.arms:
            settings = study.settings_of(arm)
            own, before = cells.stages_of(settings)
            cells.configure(settings["config"], own)
            if settings["first"]:
                cells.configure(settings["first"], before)
    question, *_, source = inspect.cleandoc(module.__doc__).split("\n\n")
    assert question.split(".")[0].endswith("?")
    assert re.search(r"\b(19|20)\d\d\b", source), "which paper?"


def all_scales():
    for name in NAMES:
        module = importlib.import_module(f"experiments.studies.{name}")
        for scale in getattr(module, "SCALES", studies.SCALES):
            yield name, scale, module.get_study(scale)


@pytest.mark.parametrize(
    "name, scale, study",
    [each for each in all_scales() if each[2].tune and not each[2].trials],
)
def test_every_tuned_arm_is_a_legal_configuration(name, scale, study, request):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(request.config.rootpath)
        settings = study.settings_of(study.baseline)
        settings |= {knob: values[0] for knob, values in study.tune.items()}
        own, before = cells.stages_of(settings)
        cells.configure(settings["config"], own)
        if settings["first"]:
            cells.configure(settings["first"], before)


NOT_COMPARED = {"composition": "no finding compares arms of two families"}
OF_SEVERAL = {  # studies that train arms from several configurations
    f"{name}:{scale}": study
    for name, scale, study in all_scales()
    if len({study.settings_of(arm)["config"] for arm in study.arms}) > 1
    and not study.probe
    and name not in NOT_COMPARED
}


@pytest.mark.parametrize("name", OF_SEVERAL)
def test_arms_of_several_configurations_differ_in_what_they_say_alone(name, request):
    """A configuration says more than its model: data, rate, length of training."""
    study = OF_SEVERAL[name]
    knobs = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(request.config.rootpath)
        for arm in study.arms:
            settings = study.settings_of(arm)
            own, _ = cells.stages_of(settings)
            run = cells.configure(settings["config"], own)
            ignored = {*api.unread(run), *study.tune}
            knobs[arm] = {
                knob: value
                for knob, value in run.knobs().items()
                if not knob.startswith("model") and knob not in ignored
            }
    base = knobs[study.baseline]
    for arm, own in knobs.items():
        said = {*study.arms[arm], *study.arms[study.baseline]}
        for knob in (own.keys() | base.keys()) - said:
            assert own.get(knob) == base.get(knob), knob
