import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from transformers.models.bloom.modeling_bloom import build_alibi_tensor
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb
from transformers.models.t5.modeling_t5 import T5Attention

from tfm_jax.ops.masks import Mask, masked_softmax
from tfm_jax.ops.positions import (
    alibi_bias,
    alibi_slopes,
    relative_buckets,
    rotate,
    sincos_2d,
    sinusoid,
    sinusoid_halves,
)

POSITIONS = np.array([[0, 1, 2, 7, 100], [0, 1, 0, 1, 2]])


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_sinusoids_equal_the_formula_of_the_paper():
    found = sinusoid(POSITIONS, 6)
    for (b, t), p in np.ndenumerate(POSITIONS):
        for i in range(3):
            angle = p / 10_000 ** (2 * i / 6)
            pair = np.sin(angle), np.cos(angle)
            np.testing.assert_allclose(
                found[b, t, 2 * i : 2 * i + 2], pair, rtol=1e-4, atol=1e-5
            )


def test_sinusoid_halves_are_a_permutation_of_the_channels():
    interleaved, halves = sinusoid(POSITIONS, 8), sinusoid_halves(POSITIONS, 8)
    np.testing.assert_array_equal(halves[..., :4], interleaved[..., 0::2])
    np.testing.assert_array_equal(halves[..., 4:], interleaved[..., 1::2])


def test_a_shift_of_sinusoids_is_one_linear_map():
    """Vaswani et al. 2017, section 3.5: why the authors chose them."""
    steps = np.arange(30)[None]
    here, there = sinusoid(steps, 6)[0], sinusoid(steps + 5, 6)[0]
    matrix, *_ = np.linalg.lstsq(here, there, rcond=None)
    np.testing.assert_allclose(here @ matrix, there, atol=1e-4)


GRID = np.stack(np.meshgrid(np.arange(4), np.arange(3)), -1).reshape(1, 12, 2)


def test_sinusoids_of_a_grid_equal_the_formula_of_big_vision():
    rates = 1 / 10_000 ** (np.arange(4) / 3)
    x, y = (GRID[0, :, axis, None] * rates for axis in (0, 1))
    wanted = np.concatenate([np.sin(x), np.cos(x), np.sin(y), np.cos(y)], axis=1)
    np.testing.assert_allclose(sincos_2d(GRID, 16)[0], wanted, atol=1e-6)


def test_logits_of_rotated_patches_depend_on_both_offsets_alone():
    """And a token at (0, 0), as [CLS] is, is not rotated."""
    q, k = normal(0, 1, 1, 1, 8), normal(1, 1, 1, 1, 8)
    q, k = (np.repeat(x, 12, axis=1) for x in (q, k))
    logits = jnp.einsum("bthk,bshk->ts", rotate(q, GRID), rotate(k, GRID))
    by_offset = {}
    for t, s in np.ndindex(12, 12):
        offset = tuple(GRID[0, t] - GRID[0, s])
        by_offset.setdefault(offset, []).append(float(logits[t, s]))
    assert all(np.ptp(some) < 1e-5 for some in by_offset.values())
    np.testing.assert_array_equal(rotate(q, GRID)[:, 0], q[:, 0])
    # the first half of the channels turns with the columns, by 100^(-2i/4)
    angles = GRID[0, :, 0] * 100.0**-0.5
    wanted = q[0, 0, 0, 1] * np.cos(angles) - q[0, 0, 0, 3] * np.sin(angles)
    np.testing.assert_allclose(rotate(q, GRID)[0, :, 0, 1], wanted, atol=1e-6)


def test_rotation_equals_that_of_llama():
    """Its cosines and sines are built here, from the same formula."""
    q, k = normal(0, 2, 5, 3, 8), normal(1, 2, 5, 3, 8)
    rates = 10_000.0 ** (-np.arange(0, 8, 2) / 8)
    angles = np.tile(POSITIONS[..., None] * rates, 2)
    cos, sin = (torch.tensor(f(angles), dtype=torch.float32) for f in (np.cos, np.sin))
    wanted = apply_rotary_pos_emb(
        torch.tensor(q), torch.tensor(k), cos, sin, unsqueeze_dim=2
    )
    for x, want in zip((q, k), wanted, strict=True):
        np.testing.assert_allclose(rotate(x, POSITIONS), want, atol=1e-5)


def test_rotated_products_depend_on_the_distance_alone():
    q, k = normal(2, 2, 5, 3, 8), normal(3, 2, 5, 3, 8)

    def products(shift):
        p = POSITIONS + shift
        return jnp.einsum("bthk,bshk->bhts", rotate(q, p), rotate(k, p))

    np.testing.assert_allclose(products(0), products(23), atol=1e-4)
    np.testing.assert_allclose(rotate(q, 0 * POSITIONS), q)
    norms = np.linalg.norm(rotate(q, POSITIONS), axis=-1)
    np.testing.assert_allclose(norms, np.linalg.norm(q, axis=-1), rtol=1e-5)


@pytest.mark.parametrize("heads", [1, 8, 12, 20])
def test_alibi_slopes_equal_those_of_bloom(heads):
    bias = build_alibi_tensor(torch.ones(1, 2), heads, torch.float32)
    np.testing.assert_allclose(alibi_slopes(heads), bias[:, 0, 1], rtol=1e-5)


def test_alibi_under_a_causal_mask_is_the_published_bias():
    """BLOOM adds slope times key position; the softmax cannot tell the difference."""
    steps = np.arange(6)[None]
    ours = alibi_bias(steps, steps, 4)
    theirs = build_alibi_tensor(torch.ones(1, 6), 4, torch.float32).numpy()[None]
    causal = Mask(causal=True).bias(6, 6)
    np.testing.assert_allclose(
        masked_softmax(ours + causal), masked_softmax(theirs + causal), atol=1e-6
    )


def test_alibi_depends_on_the_distance_alone_and_falls_with_it():
    bias = alibi_bias(POSITIONS, POSITIONS, 3)
    np.testing.assert_array_equal(bias, alibi_bias(POSITIONS + 9, POSITIONS + 9, 3))
    np.testing.assert_array_equal(bias, jnp.swapaxes(bias, 2, 3))
    assert (np.diff(bias[0, :, 0]) < 0).all()


@pytest.mark.parametrize("bidirectional", [True, False])
def test_relative_buckets_equal_those_of_t5(bidirectional):
    q, k = np.arange(0, 400, 3)[None], np.arange(400)[None]
    found = relative_buckets(q, k, bidirectional=bidirectional)
    offset = torch.tensor(k[:, None, :] - q[:, :, None])
    wanted = T5Attention._relative_position_bucket(offset, bidirectional, 32, 128)
    np.testing.assert_array_equal(found, wanted)
    shifted = relative_buckets(q + 50, k + 50, bidirectional=bidirectional)
    np.testing.assert_array_equal(found, shifted)


def test_positions_may_be_traced():
    run = jax.jit(lambda p: (sinusoid(p, 4), alibi_bias(p, p, 2)))
    np.testing.assert_allclose(run(POSITIONS)[0], sinusoid(POSITIONS, 4), atol=1e-5)


def test_sinusoids_keep_their_phase_at_distant_positions():
    positions, width = np.array([[0, 63, 64, 511, 4_095, 4_096, 262_143]]), 32
    angles = positions[..., None] * 10_000.0 ** (-np.arange(0, width, 2) / width)
    expected = np.stack([np.sin(angles), np.cos(angles)], -1).reshape(1, -1, width)
    np.testing.assert_allclose(sinusoid(positions, width), expected, atol=4e-7)
