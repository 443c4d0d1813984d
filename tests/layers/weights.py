"""Random parameters for any module, and torch's weights as ours."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def random_params(module, *inputs, seed=0, **options):
    """Parameters of ``module`` in which no bias is 0 and no scale is 1.

    Drawn with numpy from the shapes: an init would be compiled once per module.
    """
    variables = jax.eval_shape(
        lambda: module.init(jax.random.key(0), *inputs, **options)
    )
    return randomised(nn.unbox(variables).get("params", {}), seed)


def randomised(shapes, seed=0):
    """Numbers for a tree of shapes, of the size that trained weights have."""
    generator = np.random.default_rng(seed)

    def draw(path, leaf):
        x = generator.normal(size=leaf.shape)
        match path[-1].key:
            case "scale" | "score":
                x = 1 + 0.3 * x
            case "bias" | "output_bias" | "alpha":
                x = 0.3 * x
            case "table":
                x = x / np.sqrt(leaf.shape[-1])
            case "temperature":
                x = 0.1 + abs(x)
            case _:
                x = x / np.sqrt(max(leaf.size / leaf.shape[-1], 1) ** 0.5 * 4)
        return jnp.asarray(x, jnp.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def _array(tensor):
    return jnp.asarray(tensor.detach().numpy())


def linear(layer):
    """``torch.nn.Linear`` as one of ours."""
    return {"kernel": _array(layer.weight.T), "bias": _array(layer.bias)}


def norm(layer):
    return {"scale": _array(layer.weight), "bias": _array(layer.bias)}


def attention(layer):
    """``torch.nn.MultiheadAttention``, which stacks query, key and value."""
    width, heads = layer.embed_dim, layer.num_heads
    split = (heads, width // heads)
    maps = {}
    weights, biases = layer.in_proj_weight.chunk(3), layer.in_proj_bias.chunk(3)
    for name, w, b in zip(("query", "key", "value"), weights, biases, strict=True):
        kernel = _array(w.T).reshape(width, *split)
        maps[name] = {"kernel": kernel, "bias": _array(b).reshape(split)}
    out = linear(layer.out_proj)
    maps["out"] = out | {"kernel": out["kernel"].reshape(*split, width)}
    return maps


def block(layer, slot):
    """``torch.nn.TransformerEncoderLayer`` or ``...DecoderLayer``."""
    sublayers = ["self_attention", "ffn"]
    params = {
        "self_attention": attention(layer.self_attn),
        "ffn": {"up": linear(layer.linear1), "down": linear(layer.linear2)},
    }
    if hasattr(layer, "multihead_attn"):
        params["cross_attention"] = attention(layer.multihead_attn)
        sublayers.insert(1, "cross_attention")
    for i, name in enumerate(sublayers, start=1):
        params[f"{name}_residual"] = {slot: norm(getattr(layer, f"norm{i}"))}
    return params
