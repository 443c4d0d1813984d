"""Random runs that several files ask."""

import pytest

from tests.notebook.random_runs import ALONE, made


@pytest.fixture(scope="module")
def causal():
    return made("causal_lm", "gpt", "lm")


@pytest.fixture(scope="module")
def started(causal):
    """The same weights, with a token between texts."""
    data = causal.config.data.__class__(length=16, separator="<|endoftext|>")
    return causal._replace(experiment=causal.config._replace(data=data))


@pytest.fixture(scope="module")
def masked():
    return made("masked_lm", "bert", "masked_lm", data=ALONE)
