import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from diffusers import Transformer2DModel
from flax import linen as nn
from flax.traverse_util import flatten_dict

from tests.interop.denoisers import batch_of, randomised
from tests.layers.weights import normal
from tests.layers.weights import randomised as random_numbers
from tfm_jax.config import ConfigError
from tfm_jax.interop.tensors import storage
from tfm_jax.layers.arch import Arch
from tfm_jax.layers.images.feature_maps import SpatialTransformer
from tfm_jax.layers.layout import init_params
from tfm_jax.layers.parts import Context, Memory
from tfm_jax.models.unet import ATTENTION_BLOCKS, SIZES, Config, UNet
from tfm_jax.settings.configure import configure
from tfm_jax.settings.experiment import resolve
from tfm_jax.settings.new_runs import check

TINY = dict(width=8, groups=4, depth=1, image_size=(2,), multipliers=(1,))
BATCH = batch_of((3, 2, 4), Config(labels=3))


def initial(model):
    return init_params(model, jax.random.key(0), BATCH)


@pytest.mark.parametrize(
    ("size", "count"), [("cifar10", 35_746_307), ("lsun", 113_673_219)]
)
def test_published_sizes_have_the_published_number_of_parameters(size, count):
    """Ho et al. 2020, appendix B: 35.7 and 114 million."""
    shapes = jax.eval_shape(lambda: initial(UNet(Config(**SIZES[size]))))
    assert sum(math.prod(x.shape) for x in jax.tree.leaves(shapes)) == count


def test_an_untrained_model_predicts_zero_and_only_its_last_map_has_a_gradient():
    model = UNet(Config(**TINY, labels=3))

    def loss(params):
        y = model.apply({"params": params}, BATCH, train=False)
        return jnp.sum((y - 1) ** 2), y

    params = jax.jit(lambda: initial(model))()
    (_, y), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    np.testing.assert_array_equal(y, np.zeros_like(BATCH.images))
    moved = {path[0] for path, x in flatten_dict(grads).items() if np.any(x)}
    assert moved == {"final"}


INSIDE = {
    "self_attention_residual/norm_before": "norm1",
    "cross_attention_residual/norm_before": "norm2",
    "ffn_residual/norm_before": "norm3",
    **{
        f"{ours}/{name}": f"{theirs}.{to}"
        for ours, theirs in (("self_attention", "attn1"), ("cross_attention", "attn2"))
        for name, to in dict(query="to_q", key="to_k", value="to_v").items()
    },
    "self_attention/out": "attn1.to_out.0",
    "cross_attention/out": "attn2.to_out.0",
    "ffn/up": "ff.net.0.proj",
    "ffn/gate": "ff.net.0.proj",
    "ffn/down": "ff.net.2",
}
OUTSIDE = {"norm": "norm", "into": "proj_in", "out": "proj_out"}
LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias"}


def place(path, leaf):
    """Where latent diffusion has one of our parameters."""
    first, *module, kind = path.split("/")
    name = OUTSIDE.get(first)
    if name is None:
        index = first.removeprefix("layer_")
        name = f"transformer_blocks.{index}.{INSIDE['/'.join(module)]}"
    stored = storage.stored((f"{name}.{LEAVES[kind]}",), path, leaf.shape)
    if first in ("into", "out") and kind == "kernel":
        stored = stored._replace(shape=(*stored.shape, 1, 1), order=(2, 3, 1, 0))
    if module[-1:] in (["up"], ["gate"]):  # the value first, then the gate
        rows, *rest = stored.shape
        part = (int(module[-1] == "gate"), 2)
        stored = stored._replace(shape=(2 * rows, *rest), part=part)
    return stored


def test_the_spatial_transformer_is_that_of_latent_diffusion():
    """On a map that is no square, with a condition of another width, two layers."""
    reference = Transformer2DModel(
        num_attention_heads=2,
        attention_head_dim=6,
        in_channels=12,
        num_layers=2,
        cross_attention_dim=10,
        norm_num_groups=4,
        activation_fn="geglu",
    )
    reference = randomised(reference)
    x, memory = normal(0, 2, 3, 5, 12), normal(1, 2, 7, 10)
    fields = ATTENTION_BLOCKS["transformer"][1]
    cfg = Arch(width=12, heads=2, ffn_width=48, positions="none", dropout=0.0, **fields)
    module = SpatialTransformer(cfg, 2, 4, 1e-6)
    context = Context(memories={"condition": Memory(memory)})
    variables = jax.eval_shape(
        functools.partial(module.init, train=False), jax.random.key(0), x, context
    )
    flat = flatten_dict(nn.unbox(variables)["params"], sep="/")
    table = {path: place(path, leaf) for path, leaf in flat.items()}
    tensors = {n: t.numpy() for n, t in reference.state_dict().items()}
    params = storage.to_params(table, tensors)
    again = storage.to_tensors(table, params)
    assert again.keys() == tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(again[name], tensor)
    outputs = module.apply({"params": params}, x, context, train=False)
    with torch.no_grad():
        wanted = reference(
            torch.tensor(x).movedim(-1, 1), encoder_hidden_states=torch.tensor(memory)
        ).sample.movedim(1, -1)
    np.testing.assert_allclose(outputs, wanted, atol=2e-5)


@pytest.mark.parametrize("conditioning", ["time", "cross_attention"])
def test_a_label_is_dropped_while_training_alone_and_the_last_is_none(conditioning):
    block = dict(time="plain", cross_attention="transformer")[conditioning]
    fields = dict(labels=3, label_dropout=0.99, dropout=0.0, attention_block=block)
    model = UNet(Config(**TINY, **fields, conditioning=conditioning))
    params = random_numbers(jax.eval_shape(lambda: initial(model)))

    @functools.partial(jax.jit, static_argnames="train")
    def run(labels, train):
        rngs, batch = {"dropout": jax.random.key(1)}, BATCH._replace(labels=labels)
        return model.apply({"params": params}, batch, train=train, rngs=rngs)

    none = run(np.full(3, 3), False)
    labels = np.arange(3)
    assert np.all(np.abs(run(labels, False) - none).max((1, 2, 3)) > 1e-5)
    np.testing.assert_allclose(run(labels, True), none, atol=1e-5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(image_size=(6,)), "model.image_size=.* must be a multiple of 8 with 4"),
        (dict(width=2), "model.width=2 must be from 4 to"),
        (dict(groups=48), "model.groups=48 must divide the channels of each level"),
        (dict(conditioning="cross_attention"), "needs model.attention_block=transf"),
        (dict(image_size=(4, 4, 4)), "must be one or two integers from 1"),
    ],
)
def test_what_makes_no_model_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Config(**fields)


def test_a_new_run_has_attention_at_maps_that_there_are(tmp_path):
    """A run of before, which had it in the middle alone, goes on."""
    sizes = dict(image_size=(28,), multipliers=(1, 2, 2))
    config = configure("unet", "denoise", model=sizes)
    message = (
        r"model.attention_at=\(16,\) must be heights .* are \(28, 14, 7\), or \(\)"
    )
    with pytest.raises(ConfigError, match=message):
        check(resolve(config), tmp_path)
    for heights in ((), (14, 7)):
        config.model.attention_at = heights
        check(resolve(config), tmp_path)
    (tmp_path / "config.json").touch()
    config.model.attention_at = (16,)
    check(resolve(config), tmp_path)


def test_images_that_do_not_fit_are_refused():
    model = UNet(Config(**SIZES["tiny"]))
    for shape, channels, message in (
        ((1, 4, 4), 1, "images have 1 channels, model.channels=3"),
        ((1, 5, 4), 3, "images have 5x4 pixels, not multiples of 2"),
    ):
        with pytest.raises(ValueError, match=message):
            model.apply(
                {"params": {}}, batch_of(shape, Config(channels=channels)), train=False
            )
