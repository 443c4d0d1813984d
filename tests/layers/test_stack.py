import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from tests.layers import weights
from tests.layers.weights import normal
from tfm_jax.layers.arch import Arch
from tfm_jax.layers.parts import DECODER, Context, Memory
from tfm_jax.layers.stack import Stack
from tfm_jax.ops.masks import Mask

B, T, S, D, DEPTH = 2, 5, 6, 8, 2
LENGTHS = np.array([3, 6])


def reference(norm, activation):
    """torch's encoder and decoder; Post-LN has no norm after the last layer."""
    torch.manual_seed(0)
    options = dict(dropout=0.0, activation=activation, batch_first=True)
    options |= dict(norm_first=norm == "pre", layer_norm_eps=1e-6)
    stacks = []
    for kind in ("Encoder", "Decoder"):
        layer = getattr(torch.nn, f"Transformer{kind}Layer")(D, 2, 12, **options)
        build = getattr(torch.nn, f"Transformer{kind}")
        final = torch.nn.LayerNorm(D, 1e-6) if norm == "pre" else None
        unnested = {"enable_nested_tensor": False} if kind == "Encoder" else {}
        stack = build(layer, DEPTH, norm=final, **unnested)
        for weight in stack.parameters():  # copies of one layer hide a mix-up
            torch.nn.init.normal_(weight, 0.1 if weight.ndim == 1 else 0.0, 0.3)
        stacks.append(stack)
    return stacks


def converted(stack, norm):
    slot = {"post": "norm_after", "pre": "norm_before"}[norm]
    layers = {f"layer_{i}": weights.block(x, slot) for i, x in enumerate(stack.layers)}
    return layers | ({"final_norm": weights.norm(stack.norm)} if norm == "pre" else {})


@pytest.mark.parametrize(("norm", "activation"), [("post", "relu"), ("pre", "gelu")])
def test_encoder_and_decoder_equal_torch_forward_and_backward(norm, activation):
    cfg = Arch(width=D, heads=2, ffn_width=12, norm=norm, activation=activation)
    encoder, decoder = reference(norm, activation)
    params = [converted(stack, norm) for stack in (encoder, decoder)]
    x, y, readout = normal(0, B, S, D), normal(1, B, T, D), normal(2, B, T, D)

    @jax.jit
    def ours(params, x, y):
        def run(params, x, y):
            seen = Mask(kv_lengths=LENGTHS)
            memory = Stack(cfg, DEPTH, causal=False).apply(
                {"params": params[0]}, x, None, Context(seen), train=False
            )
            memories = {"encoder": Memory(memory, seen)}
            past = Context(Mask(causal=True), memories=memories)
            z = Stack(cfg, DEPTH, causal=True, pattern=(DECODER,)).apply(
                {"params": params[1]}, y, None, past, train=False
            )
            return jnp.sum(z * readout), z

        return jax.grad(run, (0, 1, 2), has_aux=True)(params, x, y)

    (by_params, by_x, by_y), z = ours(params, x, y)
    source, target = (torch.tensor(a, requires_grad=True) for a in (x, y))
    hidden = torch.tensor(np.arange(S) >= LENGTHS[:, None])
    future = torch.nn.Transformer.generate_square_subsequent_mask(T)
    memory = encoder(source, src_key_padding_mask=hidden)
    wanted = decoder(target, memory, future, memory_key_padding_mask=hidden)
    (wanted * torch.tensor(readout)).sum().backward()
    np.testing.assert_allclose(z, wanted.detach(), atol=1e-5)
    np.testing.assert_allclose(by_x, source.grad, atol=1e-4)
    np.testing.assert_allclose(by_y, target.grad, atol=1e-4)
    for stack, grads in zip((encoder, decoder), by_params, strict=True):
        for i, layer in enumerate(stack.layers):
            up = grads[f"layer_{i}"]["ffn"]["up"]["kernel"]
            np.testing.assert_allclose(up, layer.linear1.weight.grad.T, atol=1e-4)
