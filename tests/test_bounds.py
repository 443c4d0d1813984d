"""Every number of every section has a range, and outside of it a word, not a crash."""

import dataclasses
import math

import pytest

from tfm_jax import knobs
from tfm_jax.config import ConfigError, check_numbers, flatten, types_of
from tfm_jax.models import MODELS
from tfm_jax.runs.process import exits
from tfm_jax.settings.experiment import knob_types, resolve, section_types

FAMILIES = [(name, task) for name, family in MODELS.items() for task in family.learns]
# numbers whose range has an open end, or depends on one another: checked in words
SHARES = {"short_share", "other_share", "mask_rate", "mask", "random", "valid_share"}
SHARES |= {"test_share", "layer_decay"}
BOUNDLESS = {"data.numerals_max"}  # numbers are drawn and spelled, never counted up to


def smallest(model_name, task):
    """A configuration of nothing but defaults, as a nested dict."""
    classes, heads = section_types(model_name, task), MODELS[model_name].learns[task]
    config = dict(seed=0, model_name=model_name, task=task)
    config |= {name: {} for name in classes}
    if heads:
        config["model"] |= dict(head=heads[0])
    if hasattr(classes["model"], "max_length"):
        config["model"] |= dict(max_length=512)
    if "masked_lm" in heads:
        config["data"] = dict(pairs=dict(kind="none"))
    return config


@pytest.mark.parametrize("model_name, task", FAMILIES)
def test_every_number_of_every_family_is_built_or_refused_in_one_line(model_name, task):
    config = smallest(model_name, task)
    before = resolve(config).as_dict()
    tried = 0
    for knob, kind in knob_types(model_name, task).items():
        for value in (0, -1, 10**12) if kind in (int, float) else ():
            *outer, last = knob.split(".")
            changed = {
                k: dict(v) if isinstance(v, dict) else v for k, v in before.items()
            }
            section = changed
            for name in outer:
                section[name] = dict(section[name])
                section = section[name]
            section[last] = kind(value)
            tried += 1
            try:
                resolve(changed)
            except ConfigError as error:
                assert knob in str(error) and "\n" not in str(error)
                assert exits.exit_code(error) == exits.BAD_CONFIG
            else:
                huge = value == 10**12 and kind is int
                assert not huge or knob in BOUNDLESS, f"{knob}={value}"
    assert tried > 60


@pytest.mark.parametrize("model_name, task", FAMILIES)
def test_every_number_declares_its_range(model_name, task):
    for name, cls in section_types(model_name, task).items():
        for section, path in [(cls, name), *_inner(cls, name)]:
            types = types_of(section)
            for field in dataclasses.fields(section):
                number = types.get(field.name) in (int, float)
                if number and field.name not in SHARES:
                    low, high = field.metadata["range"]
                    assert low <= field.default <= high, f"{path}.{field.name}"
                    whole = types[field.name] is int
                    assert (
                        high < 2**31 or not whole or f"{path}.{field.name}" in BOUNDLESS
                    )


def _inner(cls, path):
    for field in dataclasses.fields(cls):
        if dataclasses.is_dataclass(field.default):
            yield type(field.default), f"{path}.{field.name}"


def test_the_ends_of_a_range_are_in_it():
    """But for the one that values stay below."""

    @dataclasses.dataclass(frozen=True)
    class Section:
        size: int = knobs.knob(4, "", low=2, high=8)
        rate: float = knobs.knob(0.5, "", low=0, below=1)
        name: str = "a"

        def __post_init__(self):
            check_numbers(self, "model")

    assert (Section(2).size, Section(8).size) == (2, 8)
    for size in (1, 9):
        with pytest.raises(ValueError, match=f"model.size={size} must be from 2 to 8"):
            Section(size)
    assert (Section(rate=0.0).rate, Section(rate=0.9999).rate) == (0.0, 0.9999)
    for rate in (-0.1, 1.0, math.nan):
        with pytest.raises(ValueError, match=rf"model.rate={rate} must be in \[0, 1\)"):
            Section(rate=rate)


def test_a_run_of_no_family_lacks_a_model():
    assert {model for model, _ in FAMILIES} == set(MODELS)
    assert dict(flatten({"a": {"b": 1}})) == {"a.b": 1}


@pytest.mark.parametrize("model_name, task", FAMILIES)
def test_no_knob_takes_a_secret(model_name, task):
    """So a configuration is written wherever it is of use, as it is."""
    secret = {"token", "key", "secret", "password", "credential"}
    for knob, kind in knob_types(model_name, task).items():
        if kind is str:
            assert not secret & set(knob.rpartition(".")[2].split("_")), knob
