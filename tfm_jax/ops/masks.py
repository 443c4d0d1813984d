"""Who may see whom: structure first, additive {0, -inf} bias second.

``-inf`` is spelled in this file and nowhere else.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp

HIDDEN = -jnp.inf


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["q_segments", "kv_segments", "q_lengths", "kv_lengths", "prefix"],
    meta_fields=["causal", "window", "windows", "past_segments"],
)
@dataclasses.dataclass(frozen=True)
class Mask:
    """Structure of an attention mask; every condition that is given must hold.

    Attributes:
        causal: a query sees no key to its right (Vaswani et al. 2017, section 3.2.3).
        q_segments: [B, T] int, the sentence each query belongs to; 0 is padding.
        kv_segments: [B, S] int, likewise for keys. A query sees its own segment only.
        past_segments: it sees those of lower numbers, too.
        q_lengths: [B] int, number of real queries, for rows that hold one sentence.
        kv_lengths: [B] int, number of real keys.
        window: a query sees keys at a distance below ``window``, itself included
            (Child et al. 2019, arXiv:1904.10509).
        windows: all that a traced ``window`` may be, for kernels made for one.
        prefix: [B] int, keys before it are seen by all queries, causal or not
            (Dong et al. 2019, arXiv:1905.03197).
    """

    causal: bool = False
    q_segments: jax.Array | None = None
    kv_segments: jax.Array | None = None
    q_lengths: jax.Array | None = None
    kv_lengths: jax.Array | None = None
    window: int | None = None
    windows: tuple[int, ...] = ()
    prefix: jax.Array | None = None
    past_segments: bool = False

    @classmethod
    def between(
        cls, q_segments: jax.Array | None, kv_segments: jax.Array, *, packed: bool
    ) -> "Mask":
        """Rows [B, T] and [B, S] whose segments of one number see each other.

        Args: packed: a row may hold several; else one, padded behind it.
        """
        if packed:
            return cls(q_segments=q_segments, kv_segments=kv_segments)
        lengths = jnp.sum(kv_segments > 0, axis=-1, dtype=jnp.int32)
        return cls(kv_lengths=lengths)

    def visible(self, queries: int, keys: int) -> jax.Array | None:
        """[B|1, 1, T, S] bool, or None if everything may be seen."""
        t = jnp.arange(queries)[:, None]
        s = jnp.arange(keys)[None, :]
        seen = []
        if self.causal:
            past = (s <= t)[None]
            if self.prefix is not None:
                past |= s < self.prefix[:, None, None]
            seen.append(past)
        if self.window is not None:
            seen.append((jnp.abs(t - s) < self.window)[None])
        if self.q_segments is not None:
            assert self.kv_segments is not None  # both or none
            q, kv = self.q_segments[:, :, None], self.kv_segments[:, None, :]
            seen.append((kv <= q if self.past_segments else kv == q) & (kv > 0))
        if self.q_lengths is not None:
            seen.append(t < self.q_lengths[:, None, None])
        if self.kv_lengths is not None:
            seen.append(s < self.kv_lengths[:, None, None])
        return functools.reduce(jnp.logical_and, seen)[:, None] if seen else None

    def bias(self, queries: int, keys: int) -> jax.Array | None:
        """[B|1, 1, T, S] float32, 0 visible, -inf hidden; None if all is visible."""
        visible = self.visible(queries, keys)
        return None if visible is None else to_bias(visible)


def to_bias(visible: jax.Array) -> jax.Array:
    """Bool array, True where visible, to the additive bias of the same shape."""
    return jnp.where(visible, 0.0, HIDDEN).astype(jnp.float32)


def combine(*biases: jax.Array | None) -> jax.Array | None:
    """Sum of the biases that are not None; None if none is left."""
    present = [bias for bias in biases if bias is not None]
    return functools.reduce(jnp.add, present) if present else None


@jax.custom_jvp
def masked_softmax(logits: jax.Array) -> jax.Array:
    """Softmax over the last axis in which a row of nothing but -inf gives zeros.

    Source: Vaswani et al. 2017, equation 1, with the row maximum subtracted.
    Deviates: an all-hidden row, undefined in the paper, gives zeros and zero gradients.
    Args: logits: [..., S] float32. Returns: [..., S] float32.
    """
    top = jnp.max(logits, axis=-1, keepdims=True)
    exp = jnp.exp(logits - jnp.where(jnp.isfinite(top), top, 0.0))
    total = jnp.sum(exp, axis=-1, keepdims=True)
    return exp / jnp.where(total > 0.0, total, 1.0)


@masked_softmax.defjvp
def _masked_softmax_jvp(primals, tangents):
    weights = masked_softmax(*primals)
    (dot,) = tangents
    moved = weights * dot  # zero wherever the weight is zero: no 0 * inf can arise
    return weights, moved - weights * jnp.sum(moved, axis=-1, keepdims=True)


def _before(logits, bias):
    return masked_softmax(logits if bias is None else logits + bias)


def _after(logits, bias):
    if bias is None:
        return masked_softmax(logits)
    hidden = bias == HIDDEN
    weights = masked_softmax(logits + jnp.where(hidden, 0.0, bias))
    return jnp.where(hidden, 0.0, weights)


def _after_renormalised(logits, bias):
    weights = _after(logits, bias)
    total = jnp.sum(weights, axis=-1, keepdims=True)
    return weights / jnp.where(total > 0.0, total, 1.0)


# logits [B, H, T, S], bias -> weights [B, H, T, S]
MASK_STYLES = {
    "before": _before,  # Vaswani et al. 2017, section 3.2.3
    "after_renormalised": _after_renormalised,  # equal to "before", but for underflow
    "after": _after,  # leaks: hidden keys stay in the denominator
}
