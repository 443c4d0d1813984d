"""Resampler and gated layers compute what those of Idefics in transformers do.

Idefics deviates from Alayrac et al. 2022 in its activations (ReLU, SwiGLU) and in the
norms of gated layers (RMSNorm); here these are what our layers are told to have.
"""

from typing import NamedTuple

import jax
import numpy as np
import torch
from flax.traverse_util import flatten_dict, unflatten_dict
from transformers.models.idefics.configuration_idefics import IdeficsConfig
from transformers.models.idefics.modeling_idefics import (
    IdeficsGatedCrossAttentionLayer,
)
from transformers.models.idefics.perceiver import IdeficsPerceiverResampler

from tests.layers.weights import normal
from tfm_jax.layers.arch import Arch
from tfm_jax.layers.images.resampler import Resampler, ResamplerConfig
from tfm_jax.layers.parts import CROSS, FFN, Context, Memory
from tfm_jax.layers.stack import Block
from tfm_jax.ops.masks import Mask

B, T, N, D, E = 2, 5, 3, 16, 10  # E: width of the image's states
HEADS = {"query": "q_proj", "key": "k_proj", "value": "v_proj"}


def config():
    cfg = IdeficsConfig(
        hidden_size=D, intermediate_size=24, num_attention_heads=2, vocab_size=11
    )
    cfg.vision_config.embed_dim = E
    cfg._attn_implementation = "eager"
    return cfg


def random(module, seed):
    """The module with every tensor drawn anew; gates and norms are not 0 and 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in module.parameters():
            noise = torch.randn(tensor.shape, generator=generator)
            near = 1.0 if tensor.ndim == 1 and tensor.numel() > 1 else 0.0
            tensor.copy_(near + 0.3 * noise)
    return module.double()


class Tensor(NamedTuple):
    """A parameter of theirs; a matrix is transposed and has another shape here."""

    theirs: torch.nn.Parameter
    shape: tuple[int, ...] | None = None

    def ours(self, x):
        x = x.detach().numpy().astype(np.float32)
        return x if self.shape is None else x.T.reshape(self.shape)


def kernel_of(layer, *shape):
    return Tensor(layer.weight, shape or layer.weight.T.shape)


def maps_of(theirs, ours, out, heads, size):
    """Our path -> ``Tensor`` of one attention."""
    tensors = {
        f"{ours}/{name}/kernel": kernel_of(getattr(theirs, there), -1, heads, size)
        for name, there in HEADS.items()
    }
    kernel = kernel_of(getattr(theirs, out), heads, size, -1)
    return tensors | {f"{ours}/out/kernel": kernel}


def norm_of(theirs, ours):
    tensors = {f"{ours}/scale": Tensor(theirs.weight)}
    biased = hasattr(theirs, "bias")
    return tensors | ({f"{ours}/bias": Tensor(theirs.bias)} if biased else {})


def assert_equal(tensors, ours, theirs):
    """Outputs, and the gradient of a readout by every parameter.

    Args: tensors: our path -> ``Tensor``. ours: params -> array. theirs: their output.
    """
    readout = normal(9, *theirs.shape)
    plain = {path: x.ours(x.theirs) for path, x in tensors.items()}
    params = unflatten_dict(plain, sep="/")

    def loss(params):
        y = ours(params)
        return (y * readout).sum(), y

    (_, y), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    np.testing.assert_allclose(y, theirs.detach(), atol=1e-5)
    by_tensor = torch.autograd.grad(
        (theirs * torch.tensor(readout)).sum(), [x.theirs for x in tensors.values()]
    )
    flat = flatten_dict(grads, sep="/")
    for (path, x), wanted in zip(tensors.items(), by_tensor, strict=True):
        np.testing.assert_allclose(flat[path], x.ours(wanted), atol=1e-4, err_msg=path)


def test_the_resampler_and_all_its_gradients_are_those_of_idefics():
    depth, heads, size, latents = 2, 2, 5, 3
    module = IdeficsPerceiverResampler(config(), E, depth, heads, size, latents)
    module = random(module, 0)
    tensors = {
        "latents": Tensor(module.latents),
        **norm_of(module.layer_norm, "stack/final_norm"),
    }
    for i, (attention, mlp) in enumerate(module.blocks):
        layer = f"stack/layer_{i}"
        name = f"{layer}/latent_attention"
        tensors |= maps_of(attention, name, "output_proj", heads, size)
        tensors |= norm_of(attention.context_layer_norm, f"{name}/memory_norm")
        tensors |= norm_of(attention.latents_layer_norm, f"{name}_residual/norm_before")
        tensors |= norm_of(mlp.ln, f"{layer}/ffn_residual/norm_before")
        tensors[f"{layer}/ffn/up/kernel"] = kernel_of(mlp.fc)
        tensors[f"{layer}/ffn/down/kernel"] = kernel_of(mlp.c_proj)
    sizes = dict(depth=depth, latents=latents, heads=heads, key_size=size, frames=1)
    cfg = ResamplerConfig(**sizes)
    ours = Resampler(cfg, cfg.arch(E, activation="relu"))
    x, frame = normal(1, B, 1, 7, E), np.zeros((1, E), np.float32)

    def run(params):
        return ours.apply({"params": {**params, "frame": frame}}, x, train=False)

    assert_equal(tensors, run, module(torch.tensor(x[:, 0]).double()))


def gated(name, part):
    changes = (("activation", "swiglu"), ("norm_kind", "rmsnorm"), ("biases", "none"))
    return part._replace(name=name, gate="tanh", changes=changes)


def test_a_gated_layer_and_all_its_gradients_are_those_of_idefics():
    cfg = config()
    module = random(IdeficsGatedCrossAttentionLayer(cfg, layer_idx=0), 2)
    x, states = normal(3, B, T, D), normal(4, B, 2 * N, E)
    index = np.array([[0, 1, 1, 2, 2], [0, 0, 1, 1, 2]])
    mask = Mask(q_segments=index, kv_segments=np.repeat([[1, 2]], N, 1).repeat(B, 0))
    visible = np.asarray(mask.visible(T, 2 * N))
    hidden = torch.tensor(np.where(visible, 0.0, -1e30))
    theirs = module(
        torch.tensor(x).double(),
        image_hidden_states=torch.tensor(states).double(),
        image_attention_mask=hidden,
        cross_attention_gate=torch.tensor((index > 0).astype(np.float64)),
    )
    attention, mlp = "cross_attention", "ffn"
    tensors = maps_of(module.cross_attn, attention, "o_proj", 2, D // 2)
    tensors |= norm_of(module.input_layernorm, f"{attention}_residual/norm_before")
    tensors |= norm_of(module.post_attention_layernorm, f"{mlp}_residual/norm_before")
    for ours_, theirs_ in {
        "gate": "gate_proj",
        "up": "up_proj",
        "down": "down_proj",
    }.items():
        tensors[f"{mlp}/{ours_}/kernel"] = kernel_of(getattr(module.mlp, theirs_))
    alphas = {attention: module.alpha_cross_attn, mlp: module.alpha_dense}
    tensors |= {f"{k}_residual/alpha": Tensor(x, ()) for k, x in alphas.items()}
    parts = gated(attention, CROSS._replace(memory="image")), gated(mlp, FFN)
    arch = Arch(width=D, heads=2, ffn_width=24, norm="pre", dropout=0.0)
    block = Block(arch, parts, 2)

    def run(params):
        context = Context(memories={"image": Memory(states, mask)})
        return block.apply({"params": params}, x, context, train=False)[0]

    assert_equal(tensors, run, theirs)
