"""Steps compiled for TPUs and GPUs by their own compilers, which need none.

Most families take ten seconds, published sizes minutes: those with
``TFM_JAX_PUBLISHED=1``, see ``make test-accelerators``.
"""

import dataclasses
import importlib.util
import math
import os
import re
from pathlib import Path
from unittest import mock

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from tests.test_platforms import FAMILIES
from tests.test_platforms import experiment as tiny
from tfm_jax import config as configs
from tfm_jax.mesh import Config
from tfm_jax.settings.experiment import resolve
from tfm_jax.train.aot import compiling, hlo, shapes, steps, topologies

CONFIGS = Path(__file__).parents[3] / "configs"
PUBLISHED = os.environ.get("TFM_JAX_PUBLISHED") == "1"


def needs(package, extra):
    return pytest.mark.skipif(
        importlib.util.find_spec(package) is None,
        reason=f"needs a compiler: pip install 'tfm_jax[{extra}]'",
    )


takes_long = pytest.mark.skipif(not PUBLISHED, reason="set TFM_JAX_PUBLISHED=1")
T = 256  # tokens of a row, and patches of an image: more than the kernel asks for
V = 1009  # tokens, where logits are looked for
TEXTS = dict(max_length=T, data=dict(length=T))
PAIRS = dict(data=dict(source_length=T, target_length=T))
IMAGES = dict(image_size=(16, 16), patch_size=(1,))
PROMPTED = dict(max_length=2 * T, attention_dropout=0.0)
QUERIES = dict(max_length=T, attention_dropout=0.0)
LONG = {
    "transformer": PAIRS | dict(max_length=T),
    "gpt": TEXTS | dict(vocab=V, loss_chunk=64),
    "bert": TEXTS,
    "albert": TEXTS,
    "electra": TEXTS,
    "conv_seq2seq": PAIRS | dict(max_length=T),
    "rnn_seq2seq": PAIRS,
    "vit": IMAGES | dict(pool="mean"),
    "dit": IMAGES,
    "unet": dict(image_size=(16, 16), attention_at=(16,)),
    "flamingo": dict(vision=IMAGES, lm=PROMPTED, data=dict(length=T)),
    "qformer": dict(vision=IMAGES, text=QUERIES, data=dict(length=T)),
    "blip2": dict(vision=IMAGES, lm=PROMPTED, data=dict(length=T)),
}
# no kernel has their attention, of qformer that to a visible prefix
UNFUSED = {"conv_seq2seq", "rnn_seq2seq", "qformer"}


@pytest.fixture(scope="module", autouse=True)
def programs_are_kept_by_other_tests():
    """Not by these: none for other machines can be read."""
    compilation_cache.reset_cache()
    yield
    jax.config.update("jax_enable_compilation_cache", True)
    compilation_cache.reset_cache()


@pytest.fixture(scope="module")
def chips():
    return topologies.describe_topology("v5e:2x4")


@needs("libtpu", "tpu")
@pytest.mark.parametrize(
    "name",
    [
        name if name in ("gpt", "bert") else pytest.param(name, marks=takes_long)
        for name in FAMILIES
    ],
)
def test_a_train_step_of_every_family_compiles_for_tpus(name, chips):
    """Of long rows, without an array of each query and each key, or of all logits."""
    experiment = tiny(name, **LONG[name])
    train = dataclasses.replace(experiment.train, batch_tokens=1)  # a row for each
    experiment = experiment._replace(train=train, mesh=Config())
    with mock.patch.object(hlo, "read", wraps=hlo.read) as read:
        plan = compiling.plan(experiment, chips, train_only=True)
    train, estimate = plan["steps"]["train"], plan["estimate"]
    assert plan["fits"] and train["unknown_loops"] == 0
    assert train["collectives"]["all-reduce"]["bytes"] > 0
    assert 0 < estimate["mfu"] < 1
    (program,) = read.call_args.args
    arrays = re.findall(r"\b[a-z]\w*\[([\d,]+)\]", program)
    arrays = {tuple(map(int, sizes.split(","))) for sizes in arrays}
    lengths = [[size for size in shape if T <= size < 3 * T] for shape in arrays]
    assert any(lengths), "rows are as long as they should be"
    assert any(len(two) > 1 for two in lengths) == (name in UNFUSED)
    logits = {math.prod(shape) // V for shape in arrays if V in shape}
    assert bool(logits) == (name == "gpt") and max(logits, default=0) < T


UNROLLED = {"model.layout": "unrolled"}
# configuration of a published size -> what differs, see docs/scale.md
SIZES = {
    "gpt2_small.py": {},
    "gpt2_small.py:gpt2_xl": {"mesh.data": 1, "mesh.fsdp": 8, "model.remat": "full"},
    "gpt1.py": {},
    "gpt3_small.py": {},
    "transformer_wmt.py": {},
    "transformer_wmt.py:big": {},
    "bert_base.py": {},
    "bert_base.py:large": {},
    "albert_base.py": UNROLLED,
    "electra_small.py": {},
    "electra_small.py:base": {"train.accumulate_steps": 2},
    "vit_b16.py": {"train.accumulate_steps": 4},
    "dit_imagenet.py": {"mesh.data": 1, "mesh.fsdp": 8, "train.accumulate_steps": 4},
    "ddpm_cifar10.py": UNROLLED,
    "flamingo_3b.py": {"mesh.data": 1, "mesh.fsdp": 8},
    "blip2_qformer.py:vit_g_opt_2.7b": {
        "mesh.data": 1,
        "mesh.fsdp": 8,
        "train.accumulate_steps": 16,
    },
    "conv_multi30k.py": UNROLLED,
    "rnn_multi30k.py:bentrevett1": UNROLLED,
}
# as that page says
FIT = SIZES.keys() - {"flamingo_3b.py"}


@needs("libtpu", "tpu")
@pytest.mark.slow
@takes_long
@pytest.mark.parametrize("spec", SIZES)
def test_a_published_size_compiles_for_tpus(spec, chips):
    config = configs.load(str(CONFIGS / spec))
    config.model.update(dtype="bfloat16", layout="scanned")
    config.mesh.update(data=-1)
    config.update_from_flattened_dict(SIZES[spec])
    experiment, _ = shapes.completed(resolve(config))
    plan = compiling.plan(experiment, chips, train_only=True)
    assert plan["fits"] or spec not in FIT
    if plan["estimate"]:
        assert plan["steps"]["train"]["unknown_loops"] == 0
        assert 0 < plan["estimate"]["mfu"] < 1


@needs("libtpu", "tpu")
def test_a_chip_of_its_own_and_a_wrong_shape():
    one = topologies.describe_topology("v5e:1x1")
    assert len(one.devices) == 1 and one.chip.memory == 15.75 * 2**30
    assert len(topologies.describe_topology("v4:2x2x1").devices) == 4, "not half chips"
    with pytest.raises(configs.ConfigError, match="'v5e:3x7': .*are even"):
        topologies.describe_topology("v5e:3x7")


@needs("jax_cuda12_plugin", "gpu")
@pytest.mark.slow
def test_a_train_step_compiles_for_gpus():
    described = topologies.describe_topology("h100:8")
    experiment = steps.countable(tiny("transformer"))._replace(mesh=Config())
    plan = compiling.plan(experiment, described, train_only=True)
    summed = plan["steps"]["train"]["collectives"]["all-reduce"]["bytes"]
    assert plan["fits"] and summed >= plan["state_bytes"]["parameters"]
