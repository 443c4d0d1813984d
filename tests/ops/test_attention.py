import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from tests.elsewhere import lowered, with_cudnn
from tfm_jax.ops import attention as module
from tfm_jax.ops.attention import SCORES, attention, attention_weights
from tfm_jax.ops.dropout import dropout
from tfm_jax.ops.masks import MASK_STYLES, Mask, to_bias

B, T, S, H, K, V = 2, 5, 6, 2, 4, 3


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def parameter(score, seed=9):
    shape = SCORES[score].shape
    return None if shape is None else 1.0 + normal(seed, *shape(H, K))


@pytest.fixture(scope="module")
def qkv():
    return normal(0, B, T, H, K), normal(1, B, S, H, K), normal(2, B, S, H, V)


LENGTHS = np.array([2, 6])


@pytest.fixture
def interpreted(monkeypatch):
    """The kernel of TPUs is here, too."""
    run = functools.partial(module.splash.attention, interpret=True)
    here = module.KERNELS["splash"]._replace(run=run, platform=jax.default_backend())
    monkeypatch.setitem(module.KERNELS, "splash", here)


@pytest.mark.usefixtures("interpreted")
@pytest.mark.parametrize(
    ("causal", "implementation"), [(False, "xla"), (True, "xla"), (True, "splash")]
)
def test_scaled_dot_equals_torch_forward_and_backward(qkv, causal, implementation):
    readout = normal(3, B, T, H, V)
    mask = Mask(causal=causal, kv_lengths=LENGTHS)

    def ours(q, k, v):
        y = attention(q, k, v, mask=mask, implementation=implementation)
        return jnp.sum(y * readout), y

    grads, y = jax.jit(jax.grad(ours, (0, 1, 2), has_aux=True))(*qkv)
    reference = [torch.tensor(np.swapaxes(x, 1, 2), requires_grad=True) for x in qkv]
    seen = torch.tensor(np.broadcast_to(mask.visible(T, S), (B, 1, T, S)))
    z = torch.nn.functional.scaled_dot_product_attention(*reference, attn_mask=seen)
    (z * torch.tensor(np.swapaxes(readout, 1, 2))).sum().backward()
    np.testing.assert_allclose(y, z.detach().transpose(1, 2), atol=1e-6)
    for grad, x in zip(grads, reference, strict=True):
        np.testing.assert_allclose(grad, x.grad.transpose(1, 2), atol=1e-6)


def direct(score, q, k, p):
    """Logit of one query [K] and one key [K] of one head, from the paper."""
    match score:
        case "dot":
            return q @ k
        case "scaled_dot":
            return q @ k / np.sqrt(len(q))
        case "cosine":
            return p * (q @ k) / np.linalg.norm(q) / np.linalg.norm(k)
        case "additive":
            return p @ np.tanh(q + k)


@pytest.mark.parametrize("score", SCORES)
def test_every_score_equals_its_formula(qkv, score):
    q, k, _ = qkv
    p = parameter(score)
    found = np.asarray(SCORES[score].function(q, k, p))
    for b, h, t, s in np.ndindex(B, H, T, S):
        own = None if p is None else p[h]
        wanted = direct(score, q[b, t, h], k[b, s, h], own)
        np.testing.assert_allclose(found[b, h, t, s], wanted, rtol=1e-5, atol=1e-6)


def test_the_additive_score_has_the_gradient_of_its_formula(qkv):
    q, k, _ = qkv
    readout = normal(4, B, H, T, S)

    def formula(q, k, p):
        hidden = jnp.tanh(q[:, :, None] + k[:, None])
        return jnp.einsum("btshk,hk->bhts", hidden, p)

    grads, wanted = (
        jax.jit(jax.grad(lambda *a, f=f: jnp.sum(f(*a) * readout), (0, 1, 2)))(
            q, k, parameter("additive")
        )
        for f in (SCORES["additive"].function, formula)
    )
    for found, want in zip(grads, wanted, strict=True):
        np.testing.assert_allclose(found, want, atol=1e-5)


def test_the_additive_score_never_holds_every_query_with_every_key(qkv):
    program = str(
        jax.make_jaxpr(SCORES["additive"].function)(*qkv[:2], parameter("additive"))
    )
    assert f"f32[{B},{T},{S},{H},{K}]" not in program
    assert f"f32[{B},{S},{H},{K}]" in program  # one query at a time


def test_cosine_logits_do_not_depend_on_the_length_of_queries_and_keys(qkv):
    q, k, _ = qkv
    score, p = SCORES["cosine"].function, parameter("cosine")
    np.testing.assert_allclose(score(7 * q, k / 3, p), score(q, k, p), atol=1e-6)


def test_the_scale_keeps_the_variance_of_logits_at_one():
    """Vaswani et al. 2017, section 3.2.1, footnote 4."""
    q, k = normal(5, 1, 200, 1, 64), normal(6, 1, 200, 1, 64)
    assert np.var(SCORES["scaled_dot"].function(q, k)) == pytest.approx(1, rel=0.05)
    assert np.var(SCORES["dot"].function(q, k)) == pytest.approx(64, rel=0.05)


@pytest.mark.usefixtures("interpreted")
@pytest.mark.parametrize(
    ("score", "style", "implementation"),
    [
        *((score, style, "xla") for score in SCORES for style in MASK_STYLES),
        ("scaled_dot", "before", "splash"),
    ],
)
def test_a_query_that_sees_nothing_gets_zeros_and_moves_nothing(
    qkv, score, style, implementation
):
    """Row 0 of the batch has no keys at all."""
    options = dict(score=score, mask_style=style, parameter=parameter(score))
    options |= dict(implementation=implementation)
    mask = Mask(kv_lengths=np.array([0, 4]))

    def total(q, k, v):
        y = attention(q, k, v, mask=mask, **options)
        return jnp.sum(y * normal(7, B, T, H, V)), y

    grads, y = jax.jit(jax.grad(total, (0, 1, 2), has_aux=True))(*qkv)
    np.testing.assert_array_equal(y[0], 0.0)
    for grad in grads:
        np.testing.assert_array_equal(grad[0], 0.0)
        assert np.isfinite(grad).all()
        assert np.abs(grad[1]).max() > 0


@pytest.mark.parametrize("score", SCORES)
def test_hidden_keys_reach_the_output_only_through_masking_after(qkv, score):
    q, k, v = qkv
    mask = Mask(kv_lengths=LENGTHS)

    def total(k, style):
        options = dict(score=score, parameter=parameter(score), mask_style=style)
        return jnp.sum(attention(q, k, v, mask=mask, **options) * normal(8, V))

    gradient = jax.jit(jax.grad(total), static_argnums=1)
    for style in MASK_STYLES:
        leak = np.abs(gradient(k, style)[0, 2:]).max()
        assert (leak > 1e-4) if style == "after" else (leak < 1e-6)
        assert style != "before" or leak == 0.0


def test_mask_and_bias_add_up(qkv):
    q, k, _ = qkv
    preference = normal(10, 1, H, T, S)
    mask = Mask(causal=True)
    found = attention(q, k, _, preference, mask=mask, transform=lambda w: w)
    wanted = attention(q, k, _, preference + to_bias(mask.visible(T, S)))
    np.testing.assert_array_equal(found, wanted)


def test_bfloat16_inputs_meet_a_float32_softmax(qkv):
    q, k, v = (jnp.asarray(x, jnp.bfloat16) for x in qkv)
    for score in SCORES:
        weights = attention_weights(q, k, score=score, parameter=parameter(score))
        assert weights.dtype == jnp.float32
        np.testing.assert_allclose(np.sum(weights, -1), 1.0, rtol=1e-6)
    assert attention(q, k, v).dtype == jnp.bfloat16


def test_the_transform_sees_the_weights_before_the_values_do(qkv):
    doubled = attention(*qkv, transform=lambda weights: 2 * weights)
    np.testing.assert_allclose(doubled, 2 * attention(*qkv), rtol=1e-6)


def test_weights_that_are_computed_again_are_not_kept(qkv):
    """Their dropout included."""
    drop = functools.partial(dropout, rate=0.5, key=jax.random.key(0))

    def attend(q, k, v, remat):
        y = attention(q, k, v, mask=Mask(causal=True), transform=drop, remat=remat)
        return jnp.sum(y * normal(7, B, T, H, V))

    def kept(remat):
        of = functools.partial(attend, remat=remat)
        backward = jax.eval_shape(lambda *qkv: jax.vjp(of, *qkv)[1], *qkv)
        return [x for x in jax.tree.leaves(backward) if x.shape[-2:] == (T, S)]

    assert kept(remat=False)
    assert not kept(remat=True)
    gradients = jax.jit(jax.grad(attend, (0, 1, 2)), static_argnums=3)
    for x, y in zip(gradients(*qkv, True), gradients(*qkv, False), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-6)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="about CPUs")
def test_an_impossible_implementation_is_refused_by_name(qkv):
    for name, device in (("cudnn", "an NVIDIA GPU"), ("splash", "a TPU")):
        with pytest.raises(
            ValueError, match=f"model.attention='{name}' needs {device}"
        ):
            attention(*qkv, implementation=name)
    with pytest.raises(ValueError, match="model.attention='flash'; choose from"):
        attention(*qkv, implementation="flash")


FUSED = {
    "all": Mask(),
    "causal": Mask(causal=True),
    "lengths": Mask(kv_lengths=np.array([3, 8], np.int32)),
    "window": Mask(causal=True, window=3),
    "window, lengths": Mask(
        causal=True, window=3, kv_lengths=np.array([3, 8], np.int32)
    ),
}


@pytest.mark.parametrize("length", [8, 9])  # of odd numbers it has no gradient
@pytest.mark.parametrize("name", FUSED)
def test_the_fused_kernel_is_asked_for_what_the_mask_says(name, length, monkeypatch):
    """Its arguments, given to JAX's own plain attention, mean what ours computes."""
    plain = functools.partial(jax.nn.dot_product_attention)
    monkeypatch.setattr(module, "platform", lambda: "gpu")
    monkeypatch.setattr(
        jax.nn,
        "dot_product_attention",
        lambda *qkv, implementation, **asked: plain(*qkv, **asked),
    )
    qkv = [jnp.asarray(normal(i, 2, length, 2, 8), jnp.bfloat16) for i in range(3)]
    fused, ours = (
        attention(*qkv, mask=FUSED[name], implementation=how).astype(jnp.float32)
        for how in ("cudnn", "xla")
    )
    np.testing.assert_allclose(fused, ours, atol=0.03)


@pytest.mark.parametrize(
    ("mask", "shape", "dtype", "fused"),
    [
        *((mask, (2, 8, 2, 16), "bfloat16", True) for mask in FUSED.values()),
        *((mask, (2, 9, 2, 16), "bfloat16", True) for mask in FUSED.values()),
        (Mask(window=3), (2, 8, 2, 16), "bfloat16", False),
        (Mask(window=3, kv_lengths=LENGTHS), (2, 8, 2, 16), "bfloat16", False),
        (Mask(), (2, 8, 2, 20), "bfloat16", False),
        (Mask(), (2, 8, 2, 256), "bfloat16", False),
        (Mask(), (2, 8, 2, 16), "float32", False),
    ],
)
def test_a_gpu_gets_the_kernel_where_it_has_one(mask, shape, dtype, fused, monkeypatch):
    """Lowered as for a machine with cuDNN, whose conditions JAX checks."""
    with_cudnn(monkeypatch)
    x = jax.ShapeDtypeStruct(shape, dtype)

    def total(q, k, v, implementation="auto"):
        y = attention(q, k, v, mask=mask, implementation=implementation)
        return jnp.sum(y.astype(jnp.float32))

    program = lowered(jax.grad(total), x, x, x, target="cuda")
    assert ("__cudnn$fmhaSoftmaxBackward" in program) == fused
    if not fused:
        with pytest.raises(ValueError, match="model.attention='cudnn' cannot do"):
            refused = functools.partial(total, implementation="cudnn")
            lowered(refused, x, x, x, target="cuda")


@pytest.mark.gpu
@pytest.mark.skipif(jax.default_backend() != "gpu", reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("causal", [False, True])
def test_the_fused_kernel_equals_the_plain_one(causal):
    q, k, v = (jnp.asarray(normal(i, 3, 64, 4, 64), jnp.bfloat16) for i in range(3))
    lengths = jnp.array([64, 17, 0])
    mask = Mask(causal=causal, kv_lengths=lengths, q_lengths=lengths)

    def total(q, k, v, implementation):
        y = attention(q, k, v, mask=mask, implementation=implementation)
        return jnp.sum(y.astype(jnp.float32) * normal(4, 64)), y

    run = jax.jit(jax.grad(total, (0, 1, 2), has_aux=True), static_argnums=3)
    fused, plain = run(q, k, v, "cudnn"), run(q, k, v, "xla")
    for x, y in zip(jax.tree.leaves(fused), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(
            np.asarray(x, np.float32), np.asarray(y, np.float32), atol=0.05
        )
        np.testing.assert_array_equal(x[2], 0.0)
