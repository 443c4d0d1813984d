"""Steps compiled for TPUs and GPUs by their own compilers, which need none.

Published sizes take minutes each: those with ``TFM_JAX_PUBLISHED=1``, see
``make test-accelerators``.
"""

import importlib.util
import os
from pathlib import Path

import pytest

from tests.test_platforms import FAMILIES
from tests.test_platforms import experiment as tiny
from tfm_jax import config as configs
from tfm_jax.mesh import Config
from tfm_jax.settings.experiment import resolve
from tfm_jax.train.ahead import compiling, shapes, steps, topologies

CONFIGS = Path(__file__).parents[3] / "configs"
PUBLISHED = os.environ.get("TFM_JAX_PUBLISHED") == "1"
# other tests have begun to use the cache, which cannot read programs for others
pytestmark = pytest.mark.filterwarnings(
    "ignore:Error reading persistent compilation cache"
)


def needs(package, extra):
    return pytest.mark.skipif(
        importlib.util.find_spec(package) is None,
        reason=f"needs a compiler: pip install 'tfm_jax[{extra}]'",
    )


@pytest.fixture(scope="module")
def chips():
    return topologies.describe("v5e:2x4")


@needs("libtpu", "tpu")
@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_a_train_step_of_every_family_compiles_for_tpus(name, chips):
    experiment = tiny(name)._replace(mesh=Config())
    plan = compiling.plan(experiment, chips, train_only=True)
    train, estimate = plan["steps"]["train"], plan["estimate"]
    assert plan["fits"] and train["unknown_loops"] == 0
    assert train["collectives"]["all-reduce"]["bytes"] > 0
    assert 0 < estimate["mfu"] < 1


@needs("libtpu", "tpu")
@pytest.mark.slow
@pytest.mark.skipif(not PUBLISHED, reason="set TFM_JAX_PUBLISHED=1")
@pytest.mark.parametrize(
    "spec, fits",
    {"gpt2_small.py": True, "bert_base.py": True, "transformer_wmt.py": True}.items(),
)
def test_a_published_size_compiles_for_tpus(spec, fits, chips):
    config = configs.load(str(CONFIGS / spec))
    config.model.update(dtype="bfloat16", layout="scanned")
    config.mesh.update(data=-1)
    experiment, _ = shapes.completed(resolve(config))
    assert compiling.plan(experiment, chips)["fits"] == fits


@needs("libtpu", "tpu")
def test_a_chip_of_its_own_and_a_wrong_shape():
    one = topologies.describe("v5e:1x1")
    assert len(one.devices) == 1 and one.chip.memory == 15.75 * 2**30
    assert len(topologies.describe("v4:2x2x1").devices) == 4, "not half chips"
    with pytest.raises(configs.ConfigError, match="'v5e:3x7': .*not divisible"):
        topologies.describe("v5e:3x7")


@needs("jax_cuda12_plugin", "gpu")
@pytest.mark.slow
def test_a_train_step_compiles_for_gpus():
    described = topologies.describe("h100:8")
    experiment = steps.countable(tiny("transformer"))._replace(mesh=Config())
    plan = compiling.plan(experiment, described, train_only=True)
    summed = plan["steps"]["train"]["collectives"]["all-reduce"]["bytes"]
    assert plan["fits"] and summed >= plan["state_bytes"]["parameters"]
