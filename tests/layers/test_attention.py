import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from tests.layers import weights
from tests.layers.weights import normal, random_params
from tfm_jax.layers.attention import MultiHeadAttention
from tfm_jax.ops.masks import Mask

B, T, S, D, H = 2, 5, 6, 8, 2
LENGTHS = np.array([3, 6])


def layer(**changes):
    fields = dict(width=D, heads=H, key_size=4, value_size=4, score="scaled_dot")
    fields |= dict(mask_style="before", implementation="auto", initializer="glorot")
    return MultiHeadAttention(**(fields | changes))


def test_cross_attention_equals_torch_forward_and_backward():
    torch.manual_seed(0)
    reference = torch.nn.MultiheadAttention(D, H, batch_first=True)
    params = weights.attention(reference)
    x, memory, readout = normal(0, B, T, D), normal(1, B, S, D), normal(2, B, T, D)

    def ours(params, x, memory):
        mask = Mask(kv_lengths=LENGTHS)
        y = layer().apply({"params": params}, x, memory, mask=mask, train=False)
        return jnp.sum(y * readout), y

    grads, y = jax.jit(jax.grad(ours, (0, 1, 2), has_aux=True))(params, x, memory)
    inputs = [torch.tensor(a, requires_grad=True) for a in (x, memory)]
    hidden = torch.tensor(np.arange(S) >= LENGTHS[:, None])
    z, _ = reference(inputs[0], inputs[1], inputs[1], key_padding_mask=hidden)
    (z * torch.tensor(readout)).sum().backward()
    np.testing.assert_allclose(y, z.detach(), atol=1e-6)
    for grad, tensor in zip(grads[1:], inputs, strict=True):
        np.testing.assert_allclose(grad, tensor.grad, atol=1e-5)
    query_grad = reference.in_proj_weight.grad[:D].T.reshape(D, H, D // H)
    np.testing.assert_allclose(grads[0]["query"]["kernel"], query_grad, atol=1e-5)
    out_grad = reference.out_proj.weight.grad.T.reshape(H, D // H, D)
    np.testing.assert_allclose(grads[0]["out"]["kernel"], out_grad, atol=1e-5)


def test_head_sizes_are_free_of_width_and_heads():
    module = layer(heads=3, key_size=5, value_size=7)
    x = normal(3, B, T, D)
    params = random_params(module, x, x, train=False)
    shapes = jax.tree.map(jnp.shape, params)
    assert shapes["query"]["kernel"] == shapes["key"]["kernel"] == (D, 3, 5)
    assert shapes["value"]["kernel"] == (D, 3, 7)
    assert shapes["out"] == {"kernel": (3, 7, D), "bias": (D,)}
    y = jax.eval_shape(lambda: module.apply({"params": params}, x, x, train=False))
    assert y.shape == x.shape


def test_a_query_that_sees_nothing_gets_the_output_bias_and_finite_gradients():
    x, module = normal(4, B, T, D), layer()
    params = random_params(module, x, x, train=False)

    def total(params):
        mask = Mask(kv_lengths=np.array([0, T]))
        y = module.apply({"params": params}, x, x, mask=mask, train=False)
        return jnp.sum(y**2), y

    grads, y = jax.jit(jax.grad(total, has_aux=True))(params)
    bias = np.broadcast_to(params["out"]["bias"], (T, D))
    np.testing.assert_array_equal(y[0], bias)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))


def test_projecting_once_and_attending_often_equals_the_call():
    x, positions = normal(5, B, T, D), np.tile(np.arange(T), (B, 1))
    module = layer()
    params = random_params(module, x, x, train=False)
    options = dict(positions=positions, train=False)
    whole = module.apply({"params": params}, x, x, **options)
    kv = module.apply({"params": params}, x, positions, method="project")
    last = module.apply(
        {"params": params},
        x[:, 3:],
        kv,
        positions=positions[:, 3:],
        train=False,
        method="attend",
    )
    np.testing.assert_allclose(last, whole[:, 3:], atol=1e-6)


def test_weights_can_be_recorded_and_recording_changes_nothing():
    x, module = normal(6, B, T, D), layer()
    params = random_params(module, x, x, train=False)
    mask = Mask(causal=True)
    plain = module.apply({"params": params}, x, x, mask=mask, train=False)
    y, recorded = module.apply(
        {"params": params}, x, x, mask=mask, train=False, mutable="intermediates"
    )
    (found,) = recorded["intermediates"]["weights"]
    assert found.shape == (B, H, T, T)
    np.testing.assert_allclose(found.sum(-1), 1.0, rtol=1e-6)
    np.testing.assert_array_equal(np.triu(found, 1), 0.0)
    np.testing.assert_allclose(y, plain, atol=1e-6)


@pytest.mark.parametrize("train", [True, False])
def test_dropout_on_the_weights_acts_only_in_training(train):
    x, module = normal(7, B, T, D), layer(dropout=0.5)
    params = random_params(module, x, x, train=False)
    rngs = {"dropout": jax.random.key(0)}
    y = module.apply({"params": params}, x, x, train=train, rngs=rngs)
    plain = layer().apply({"params": params}, x, x, train=train)
    assert np.array_equal(y, plain) != train
