"""Tuning: what the flags of an ad-hoc study try for every arm."""

import argparse
import contextlib
import re
from collections.abc import Callable, Mapping
from typing import Any

from experiments.adhoc.flags import pairs
from experiments.space import MOST_TRIALS, SCALES, Range, choice
from tfm_jax.api import ConfigError

FORMS = "VALUE,VALUE or LOW..HIGH:log or LOW..HIGH:linear"
_RANGE = re.compile(r"([^,'\"/]+?)\.\.([^,'\"/:]+)(?::(.*))?")
_MISWRITTEN = re.compile(r"[^'\"/]*(\.\.|:log|:linear)[^'\"/]*")


def asked(
    options: argparse.Namespace, read: Callable[[list[str]], Mapping[str, tuple]]
) -> dict[str, Any]:
    """Knob -> what is tried: values, or with --trials ranges and choices.

    Args: read: of ``KNOB=VALUE,VALUE`` the values.
    Raises: ConfigError naming the flag, its value and its legal forms.
    """
    if not 0 <= options.trials <= MOST_TRIALS:
        raise ConfigError(
            f"--trials={options.trials}; the points tried for each arm, from 1 to "
            f"{MOST_TRIALS:,}"
        )
    if options.trials and not options.tune:
        raise ConfigError(
            f"--trials={options.trials} of nothing: give --tune KNOB={FORMS}"
        )
    texts = [text.removeprefix("config.") for text in options.tune]
    given = pairs("--tune", texts, f"KNOB={FORMS}")
    matches = {k: _RANGE.fullmatch(text) for k, text in given.items()}
    for knob, text in given.items():
        if "..." in text if matches[knob] else _MISWRITTEN.fullmatch(text):
            raise ConfigError(f"--tune {knob}={text}: no range; write {FORMS}")
    ranges = {k: _range(k, match) for k, match in matches.items() if match}
    if ranges and not options.trials:
        knob = next(iter(ranges))
        raise ConfigError(
            f"--tune {knob}={given[knob]}: give --trials N, how many points are tried "
            "for each arm"
        )
    lists = [text for text in texts if text.partition("=")[0] not in ranges]
    values: dict[str, Any] = dict(read(lists))
    if options.trials:
        for knob, tried in values.items():
            if len(tried) < 2:
                raise ConfigError(
                    f"--tune {knob}={given[knob]} with --trials={options.trials}: one "
                    f"value is no choice; write {FORMS}"
                )
        values = {knob: choice(*tried) for knob, tried in values.items()}
    return {knob: ranges.get(knob) or values[knob] for knob in given}


def _range(knob: str, match: re.Match) -> Range:
    text, (low, high, scale) = match[0], match.groups()
    scale = SCALES[0] if scale is None else scale
    try:
        return Range(_number(low), _number(high), scale)
    except ValueError as error:
        raise ConfigError(f"--tune {knob}={text}: {error}; write {FORMS}") from error


def _number(text: str) -> float:
    """An integer if it is one, so that a file reads as the flag does."""
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    raise ValueError(f"{text!r} is no number")
