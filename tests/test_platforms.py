"""Train steps for TPUs and GPUs, lowered on this machine: no kernel of CPUs in them."""

import dataclasses
import functools
import math
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.elsewhere import KINDS, lowered, on, with_cudnn
from tests.models import tiny_conv, tiny_images
from tests.reliability import tiny
from tests.test_configs import Vocabularies
from tests.workloads.text_runs import get_config
from tfm_jax.config import ConfigError
from tfm_jax.decode.topk import top_k
from tfm_jax.layers.layout import abstract, init_params
from tfm_jax.mesh import Config, make_mesh
from tfm_jax.models import MODELS
from tfm_jax.ops import products
from tfm_jax.ops.platform import platform
from tfm_jax.settings.configure import configure
from tfm_jax.settings.experiment import resolve
from tfm_jax.train.program import build
from tfm_jax.workloads import WORKLOADS

TEXT = {  # task and head of each
    "gpt": ("causal_lm", "lm"),
    "bert": ("masked_lm", "pretraining"),
    "albert": ("masked_lm", "pretraining"),
    "electra": ("replaced_tokens", "pretraining"),
}
IMAGES = tiny_images.TINY | dict(width=16)
DENOISING = dict(width=16, depth=1, image_size=(6, 8), channels=2, labels=2)
CONVOLUTIONS = tiny_conv.NARROW | dict(max_length=64)
CONVOLUTIONS |= dict(source_vocab=0, target_vocab=0)
IMAGES_OF = {k: x for k, x in IMAGES.items() if k != "labels"} | dict(depth=1)
LANGUAGE = dict(width=16, heads=2, ffn_width=12, depth=1)
RESAMPLER = dict(depth=1, latents=2, heads=2)
QUERYING = dict(width=16, heads=2, ffn_width=12, depth=1)
OTHERS = {  # task and sizes
    "conv_seq2seq": ("translation", CONVOLUTIONS),
    "rnn_seq2seq": ("translation", dict(width=16, embedding_width=8, bridge="zeros")),
    "vit": ("classify_images", IMAGES),
    "dit": ("denoise", DENOISING | dict(heads=2, ffn_width=12, patch_size=(2,))),
    "unet": (
        "denoise",
        DENOISING | dict(multipliers=(1,), groups=4, attention_at=(6,)),
    ),
    "flamingo": ("visual_lm", dict(vision=IMAGES_OF, lm=LANGUAGE, resampler=RESAMPLER)),
    "qformer": ("retrieval", dict(vision=IMAGES_OF, text=QUERYING, queries=2)),
    "blip2": (
        "visual_lm",
        dict(vision=IMAGES_OF, text=QUERYING, queries=2, lm=LANGUAGE),
    ),
}
FAMILIES = ("transformer", *TEXT, *OTHERS)
# here, by cuDNN
FUSED = {"bert", "albert", "electra", "vit", "dit", "unet"}
FUSED |= {"flamingo", "qformer", "blip2"}
EXACT = {"qformer": 4}  # of images, texts, and pairs; and all similarities
EVERYWHERE = {"Sharding", "SPMDFullToShardShape", "SPMDShardToFullShape"}


def experiment(name, *, data=None, **model):
    if name == "transformer":
        config = tiny.get_config()
    elif name in OTHERS:
        task, sizes = OTHERS[name]
        config = configure(name, task, model=sizes)
    else:
        task, head = TEXT[name]
        config = get_config(task, name, head, Path(), width=16)
        if head == "pretraining" and task == "masked_lm":
            config.data.pairs.kind = "nsp"
    config.model.update(dtype="bfloat16", **model)
    config.data.update(data or {})
    return resolve(config).complete(Vocabularies(31))


def example_of(experiment):
    """The smallest batch of what it learns."""
    example = WORKLOADS[experiment.task].objective.example()
    if not hasattr(example, "images"):
        return example
    images = tiny_images.images(1).images
    several = example.images.ndim == 5  # of a row
    return example._replace(images=images[:, None] if several else images)


def gradients(experiment, target, example=None):
    """Its gradients for ``target``, as text."""
    example = example or example_of(experiment)
    batch = jax.tree.map(lambda x: np.ones((1, 2, *x.shape[1:]), x.dtype), example)
    with on(target):
        program = build(experiment)
        state = program.shapes()
        assert state == jax.eval_shape(program.init, 0)
    return lowered(program.gradients, state, batch, target=target)


def summed(program, dtype):
    """Sums of several numbers of that kind."""
    sums = rf"stablehlo.add across dimensions = \[(.*?)\] : \(tensor<(\S+)x{dtype}>"
    matches = re.findall(sums, program)
    sizes = [
        math.prod(int(shape.split("x")[int(axis)]) for axis in axes.split(","))
        for axes, shape in matches
    ]
    return [size for size in sizes if size > 1]


def test_every_family_is_here():
    assert set(FAMILIES) == MODELS.keys()


@pytest.mark.parametrize("target", KINDS)
@pytest.mark.parametrize("name", FAMILIES)
def test_gradients_lower_for_machines_that_are_not_here(name, target, monkeypatch):
    def of_cpus(*_):
        pytest.fail("the form of products for CPUs")

    with_cudnn(monkeypatch)
    monkeypatch.setattr(products, "_sum_on_cpu", of_cpus)
    program = gradients(experiment(name), target)
    calls = set(re.findall(r"custom_call @([\w$.]+)", program)) - EVERYWHERE
    assert all(call.startswith("__cudnn$fmha") for call in calls)
    assert bool(calls) == (target == "cuda" and name in FUSED)
    operands = re.findall(r"dot_general .* : \((\S+), (\S+)\) ->", program)
    rounded = ["bf16" in left and "bf16" in right for left, right in operands]
    assert rounded.count(True) > 10
    # maps to labels, or to what is compared, are float32, and back
    assert rounded.count(False) in (0, 3 * EXACT.get(name, 1))
    # no array is summed in bfloat16, such as gradients over rows
    assert summed(program, "f32")
    assert not summed(program, "bf16")


SCANNED = dict(layout="scanned", windows=(0, 9), depth=2)


@pytest.mark.parametrize(
    ("name", "target", "changes"),
    [
        *((name, "tpu", {}) for name in ("gpt", "transformer", "bert", "dit")),
        *((name, "cuda", {}) for name in ("gpt", "vit")),
        *(("gpt", target, SCANNED) for target in KINDS),
        ("gpt", "tpu", dict(attention="xla")),
    ],
)
def test_no_weights_of_attention_exist_where_a_kernel_computes_them(
    name, target, changes, monkeypatch
):
    """Rows of several texts included, for which GPUs have none."""
    with_cudnn(monkeypatch)
    length, (height, width) = 256, (16, 16)
    longer = {"gpt": dict(max_length=length), "bert": dict(max_length=length)}
    sizes = dict(image_size=(height, width), patch_size=(1,))
    longer |= {"vit": sizes | dict(pool="mean"), "dit": sizes}
    asked = experiment(name, **changes, **longer.get(name, {}))
    example = WORKLOADS[asked.task].objective.example()
    if hasattr(example, "images"):
        pixels = tiny_images.images(1, (height, width)).images
        example = example._replace(images=pixels)
    else:
        example = jax.tree.map(
            lambda x: np.ones((1, length), x.dtype) if x.shape == (1, 2) else x, example
        )
    if target == "cuda" and name == "gpt":
        example = example._replace(positions=None)
    program = gradients(asked, target, example)
    weights = re.findall(rf"<(?:\d+x)*{length}x{length}x\w+>", program)
    assert bool(weights) == ("attention" in changes)


@pytest.mark.parametrize("name", sorted(FUSED - {"dit", "unet"}))
def test_cudnn_is_a_choice_where_it_can_do_all_attention_of_a_family(name, monkeypatch):
    fields = dataclasses.fields(MODELS[name].config)
    (choices,) = (x.metadata["choices"] for x in fields if x.name == "attention")
    if "cudnn" not in choices:
        with pytest.raises(ConfigError, match=r"attention='cudnn'.*\(auto, xla\)"):
            experiment(name, attention="cudnn")
        return
    with_cudnn(monkeypatch)
    asked = experiment(name, attention="cudnn")
    with on("cuda"):
        model, example = asked.build_model(), example_of(asked)
        params = jax.eval_shape(lambda: init_params(model, jax.random.key(0), example))
        apply = functools.partial(model.apply, train=False)
        jax.eval_shape(apply, {"params": params}, example)


@pytest.mark.parametrize("target", KINDS)
@pytest.mark.parametrize(
    "changes", [{}, dict(data__batching="bucket"), dict(model__positions="alibi")]
)
def test_what_packed_rows_cost_on_a_gpu_is_said(changes, target, caplog):
    """If there were a kernel for all else; TPUs have one for them, too."""
    able = dict(model__dtype="bfloat16", model__width=16, data__batching="pack")
    asked = resolve(tiny.get_config(**able | changes))
    with on(target):
        asked.say_if_rows_cost_the_kernel()
    assert ("data.batching=bucket" in caplog.text) == (target == "cuda" and not changes)


def test_the_platform_is_that_of_the_mesh():
    assert platform() == jax.default_backend()
    for target, name in (("tpu", "tpu"), ("cuda", "gpu")):
        with on(target):
            assert platform() == name
    with jax.set_mesh(make_mesh(Config(data=1))):
        assert platform() == jax.default_backend()


@pytest.mark.parametrize("vocab", [50, 4096])
def test_what_a_search_of_a_vocabulary_needs_on_cpus_is_nowhere_else(vocab):
    search = functools.partial(top_k, k=4)
    logits = jax.ShapeDtypeStruct((2, vocab), "float32")
    here = jax.jit(search).lower(logits).as_text()
    assert "optimization_barrier" in here
    assert ("reduce_window" in here) == (vocab > 1000)
    for target in KINDS:
        program = lowered(search, logits, target=target)
        assert not {"optimization_barrier", "reduce_window"} & set(
            re.findall(r"stablehlo\.(\w+)", program)
        )
        assert "top_k" in program


@pytest.mark.parametrize("name", FAMILIES)
def test_parameters_are_made_without_a_kernel(name, monkeypatch):
    """On a GPU too, where rows of a few tokens would ask cuDNN."""
    implementations = []

    def attend(q, k, v, *_, implementation, **unused):
        implementations.append(implementation)
        return jnp.zeros((*q.shape[:-1], v.shape[-1]), v.dtype)

    for module in ("attention", "convolutions", "recurrent.alignment"):
        monkeypatch.setattr(f"tfm_jax.layers.{module}.attention", attend)
    model = experiment(name).build_model()
    inputs = WORKLOADS[experiment(name).task].objective.example()
    abstract(model, inputs)
    jax.eval_shape(lambda: init_params(model, jax.random.key(0), inputs))
    assert set(implementations) == {"xla"}
