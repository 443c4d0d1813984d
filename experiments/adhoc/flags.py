"""Flags: of ad-hoc studies, what they leave out, and how their values are read."""

import argparse
from collections.abc import Sequence

from experiments.space import PROPOSERS
from tfm_jax.api import ConfigError

MOST_SEEDS = 10_000
FLAGS = (  # besides --config
    "axes",
    "tune",
    "trials",
    "proposer",
    "zip",
    "name",
    "metric",
    "goal",
    "sesoi",
)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Of a question that no file asks."""
    parser.add_argument("--config", default="")
    parser.add_argument("--axis", action="append", default=[], dest="axes")
    parser.add_argument("--tune", action="append", default=[])
    parser.add_argument("--trials", type=int, default=0)
    parser.add_argument("--proposer", choices=PROPOSERS, default="")
    parser.add_argument("--zip", action="store_true")
    parser.add_argument("--name", default="")
    parser.add_argument("--metric", default="")
    parser.add_argument("--goal", choices=("min", "max"), default="")
    parser.add_argument("--sesoi", type=float, default=0.0)


def check(options: argparse.Namespace) -> None:
    """Refuses flags of an ad-hoc study without a configuration."""
    for name in FLAGS if not options.config else ():
        if getattr(options, name):
            flag = "--axis" if name == "axes" else f"--{name}"
            raise ConfigError(
                f"{flag} needs --config=FILE[:SIZE], which arms start from"
            )


def pairs(flag: str, texts: Sequence[str], form: str = "NAME=VALUE") -> dict[str, str]:
    """Name -> value of a flag ``NAME=VALUE`` that may be repeated.

    Raises: ConfigError for a text that is none, and for a name that is given twice.
    """
    given: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ConfigError(f"{flag} {text}: write {flag} {form}")
        if name in given:
            raise ConfigError(f"{flag} {text}: {name} is given twice")
        given[name] = value
    return given


def seeds(text: str) -> tuple[int, ...]:
    """``5`` are so many; ``0,1,7`` and ``5,`` are these."""
    try:
        if "," in text:
            return tuple(int(word) for word in text.removesuffix(",").split(","))
        if 0 < int(text) <= MOST_SEEDS:
            return tuple(range(int(text)))
        raise ValueError
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"--seeds={text}; a number of seeds from 1 to {MOST_SEEDS:,}, or whole "
            "numbers with commas between, such as 0,1,7"
        ) from error
