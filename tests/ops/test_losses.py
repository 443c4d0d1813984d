import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import torch

from tfm_jax.ops.losses import FactoredLogits, token_cross_entropy, token_logits

B, T, V = 3, 4, 7
LENGTHS = np.array([4, 1, 0])
WEIGHTS = (np.arange(T) < LENGTHS[:, None]).astype(np.float32)


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


LOGITS = 3 * normal(0, B, T, V)
LABELS = np.random.default_rng(1).integers(0, V, (B, T))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_cross_entropy_equals_torch_forward_and_backward(smoothing):
    def ours(logits):
        return token_cross_entropy(logits, LABELS, WEIGHTS, smoothing)

    (total, weight), grad = jax.jit(jax.value_and_grad(ours, has_aux=True))(LOGITS)
    logits = torch.tensor(LOGITS, requires_grad=True)
    labels = torch.tensor(np.where(WEIGHTS > 0, LABELS, -100)).reshape(-1)
    wanted = torch.nn.functional.cross_entropy(
        logits.reshape(-1, V), labels, reduction="sum", label_smoothing=smoothing
    )
    wanted.backward()
    np.testing.assert_allclose(total, wanted.item(), rtol=1e-6)
    np.testing.assert_allclose(grad, logits.grad, atol=1e-6)
    assert weight == LENGTHS.sum()


def test_the_smallest_smoothed_loss_is_the_entropy_of_the_smoothed_label():
    target = np.full(V, 0.1 / V)
    target[2] += 0.9
    logits = jnp.log(jnp.asarray(target, jnp.float32))[None, None]
    total, _ = token_cross_entropy(logits, np.array([[2]]), np.ones((1, 1)), 0.1)
    np.testing.assert_allclose(total, scipy.stats.entropy(target), rtol=1e-5)


def test_what_stands_at_padding_changes_neither_loss_nor_gradient():
    run = jax.value_and_grad(token_cross_entropy, has_aux=True)
    run = jax.jit(run, static_argnums=3)
    (total, weight), grad = run(LOGITS, LABELS, WEIGHTS, 0.1)
    hidden = WEIGHTS == 0
    other_logits = np.where(hidden[..., None], 1e4 * normal(2, B, T, V), LOGITS)
    other_labels = np.where(hidden, -100, LABELS)
    (again, _), grad_again = run(other_logits, other_labels, WEIGHTS, 0.1)
    assert (total, weight) == (again, LENGTHS.sum())
    np.testing.assert_array_equal(grad, grad_again)
    np.testing.assert_array_equal(grad[hidden], 0.0)


def test_sum_and_weight_do_not_depend_on_how_rows_are_batched():
    run = jax.jit(token_cross_entropy, static_argnums=3)
    whole = run(LOGITS, LABELS, WEIGHTS, 0.1)
    parts = [
        run(LOGITS[i], LABELS[i], WEIGHTS[i], 0.1) for i in (slice(0, 1), slice(1, 3))
    ]
    np.testing.assert_allclose(whole, np.sum(parts, axis=0), rtol=1e-6)


def test_the_backward_pass_keeps_no_array_of_vocabulary_size_but_the_logits():
    def loss(logits):
        return token_cross_entropy(logits, LABELS, WEIGHTS, 0.1)[0]

    _, backward = jax.vjp(loss, jnp.asarray(LOGITS))
    kept = [x for x in jax.tree.leaves(backward) if V in np.shape(x)]
    assert len(kept) == 1
    np.testing.assert_array_equal(kept[0], LOGITS)
    program = str(jax.make_jaxpr(jax.grad(loss))(LOGITS))
    assert "one_hot" not in program
    assert program.count(f"bool[{B},{T},{V}]") <= 2  # the comparison that XLA fuses


def test_large_logits_and_bfloat16_logits_give_a_finite_float32_loss():
    total, _ = token_cross_entropy(1e4 * LOGITS, LABELS, WEIGHTS, 0.1)
    assert np.isfinite(total)
    half = jnp.asarray(LOGITS, jnp.bfloat16)
    total, _ = token_cross_entropy(half, LABELS, WEIGHTS, 0.1)
    exact, _ = token_cross_entropy(half.astype(jnp.float32), LABELS, WEIGHTS, 0.1)
    assert total.dtype == jnp.float32
    np.testing.assert_allclose(total, exact, rtol=1e-6)


@pytest.mark.parametrize("chunk", [1, 2, 3])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_chunks_of_a_factored_loss_add_up_to_the_whole_one(chunk, dtype):
    D, scale = 5, 4.0
    factors = normal(3, B, T, D).astype(dtype), normal(4, V, D), normal(5, V)

    def loss(whole):
        def of(states, table, bias):
            logits = FactoredLogits(states, table, bias, jnp.dtype(dtype), chunk)
            if whole:
                logits = token_logits(states, table, jnp.dtype(dtype), bias)
            total, _ = token_cross_entropy(logits, LABELS, WEIGHTS, 0.1)
            return scale * total

        return of

    both = (jax.jit(jax.value_and_grad(loss(x), (0, 1, 2))) for x in (False, True))
    (ours, grads), (wanted, whole) = (run(*factors) for run in both)
    np.testing.assert_allclose(ours, wanted, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(loss(False))(*factors), wanted, rtol=1e-6)
    tolerance = dict(float32=1e-5, bfloat16=2**-7)[dtype]
    for grad, other in zip(grads, whole, strict=True):
        assert grad.dtype == other.dtype
        pair = grad.astype(np.float32), other.astype(np.float32)
        np.testing.assert_allclose(*pair, rtol=tolerance, atol=tolerance)


def test_no_logits_of_all_positions_exist_where_they_are_factored():
    states, table = normal(3, B, T, 5), normal(4, V, 5)

    def loss(states, table, chunk):
        logits = FactoredLogits(states, table, None, jnp.dtype("float32"), chunk)
        return token_cross_entropy(logits, LABELS, WEIGHTS)[0]

    program = str(
        jax.make_jaxpr(jax.grad(loss, (0, 1)), static_argnums=2)(states, table, 2)
    )
    assert f"[{2 * B},{V}]" in program
    assert f"[{B},{T},{V}]" not in program and f"[{T * B},{V}]" not in program
