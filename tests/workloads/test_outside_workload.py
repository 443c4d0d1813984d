"""A thing to learn that lies outside of the package, of data that is no text."""

import json

import numpy as np
import pytest

from tests.reliability import tiny
from tests.workloads import digits
from tfm_jax import models, workloads
from tfm_jax.config import ConfigError
from tfm_jax.main import main
from tfm_jax.notebook import load_run
from tfm_jax.settings.experiment import resolve
from tfm_jax.train import loop

pytestmark = pytest.mark.usefixtures("compiled_once")


@pytest.fixture(scope="module", autouse=True)
def known():
    models.register(digits.FAMILY)
    workloads.register(digits.WORKLOAD)
    yield
    models.MODELS.pop(digits.FAMILY.name)
    workloads.WORKLOADS.pop(digits.WORKLOAD.name)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(workdir, results) of six steps."""
    workdir = tmp_path_factory.mktemp("digits")
    return workdir, loop.train(digits.get_config(), workdir)


def test_it_trains_is_scored_and_loaded(trained):
    workdir, results = trained
    assert results["valid"]["accuracy"] > 0.25  # by chance 0.125
    assert main(["--mode=eval", f"--workdir={workdir}"]) == 0
    run = load_run(workdir)
    found = run.evaluate()
    assert found["nll"] == pytest.approx(results["test"]["nll"])
    assert run.tokenizer is None


def test_a_run_without_text_has_no_tokenizer(trained):
    workdir, _ = trained
    assert "tokenizer" not in json.loads((workdir / "config.json").read_text())
    assert not [*workdir.rglob("tokenizer.json")]
    config = digits.get_config().to_dict() | {"tokenizer": {"kind": "byte"}}
    with pytest.raises(ConfigError, match=r"sections \['tokenizer'\] are unknown"):
        resolve(config)


def test_it_goes_on_as_if_it_had_never_stopped(trained, tmp_path):
    assert not tiny.run(tmp_path / "cut", digits.get_config(), stop=(3,))
    assert tiny.run(tmp_path / "cut", digits.get_config())
    assert tiny.digests(tmp_path / "cut") == tiny.digests(trained[0])


def test_its_prepared_data_is_kept_without_a_tokenizer(tmp_path):
    from tfm_jax.data.cache import prepared

    cfg, kind = digits.Data(), digits.WORKLOAD.data
    made, again = (prepared(kind, cfg, None, tmp_path / "cache") for _ in range(2))
    assert isinstance(again.train[0].pixels, np.ndarray)
    np.testing.assert_array_equal(made.train[0].pixels, again.train[0].pixels)
    assert made.fingerprint == again.fingerprint and again.tokenizer is None


def test_checkpoints_without_text_are_averaged(trained):
    workdir, _ = trained
    assert main(["--mode=average", f"--workdir={workdir}", "--last=2"]) == 0
    assert load_run(workdir / "averaged").evaluate()
