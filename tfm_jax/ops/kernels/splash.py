"""Attention on TPUs by JAX's Pallas kernel, from the structure of a mask alone."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from tfm_jax.ops.masks import Mask

TILE = 128  # lengths are padded to multiples of it
BLOCKS = (512, 256, TILE)  # tokens of a block; levanter and MaxText have 512
# segments of queries and keys that are padding, or hidden
NO_QUERY, NO_KEY = 0, -1
# Below every logit, and above those of hidden keys: one more key, without a value, that
# only a query looks at which sees nothing else (Xiao et al. 2024, arXiv:2309.17453).
# The kernel alone would give it the mean of keys that it must not see.
SINK = -1e30


def attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    mask: Mask | None = None,
    divided: PartitionSpec | None = None,
    *,
    interpret: bool = False,
) -> jax.Array:
    """Weighted mean of the values a query may see; no [T, S] array exists.

    Source: Dao et al. 2022, arXiv:2205.14135, with the blocks left out that a mask
    hides, as ``jax.experimental.pallas.ops.tpu.splash_attention``. Deviates: a query
    that may see nothing gets zeros, with zero gradients.

    Args:
        q: [B, T, H, K] queries. k: [B, S, H, K] keys. v: [B, S, H, K'] values.
        mask: without ``prefix``, ``past_segments`` and a traced window.
        divided: mesh axes that B and H, axes 0 and 2 of ``q``, are divided over.
        interpret: without a TPU.
    Returns: [B, T, H, K'] in the dtype of ``q``.
    """
    mask, queries = mask or Mask(), q.shape[1]
    segments = _segments(mask, q, k)
    q = (q.astype(jnp.float32) / math.sqrt(q.shape[-1])).astype(q.dtype)
    q, k, v = (_padded(jnp.swapaxes(x, 1, 2), 0) for x in (q, k, v))
    run = functools.partial(
        _of_rows, causal=mask.causal, window=mask.window, interpret=interpret
    )
    y = _apart(run, divided, q)(q, k, v, segments)
    return jnp.swapaxes(y, 1, 2)[:, :queries]


def lacks(q: Any, v: Any, mask: Mask) -> dict[str, Any]:
    """What it may lack, in words -> whether the request has it."""
    del q, v
    return {"segments that see earlier ones": mask.past_segments}


def _segments(mask, q, k):
    """Numbers [B, T'] and [B, S'], where equal ones see each other, or None."""
    sides = (
        (q, mask.q_segments, mask.q_lengths, NO_QUERY),
        (k, mask.kv_segments, mask.kv_lengths, NO_KEY),
    )
    batch, keys = len(q), k.shape[1]
    given = [x for side in sides for x in side[1:3] if x is not None]
    if not given and keys % TILE == 0:
        return None
    numbered = []
    for x, segments, lengths, hidden in sides:
        size = x.shape[1]
        real = jnp.ones((batch, size), bool)
        if lengths is not None:
            real &= jnp.arange(size) < lengths[:, None]
        if segments is None:
            segments = jnp.ones((), jnp.int32)
        else:
            real &= segments > 0
        numbered.append(_padded(jnp.where(real, segments, hidden), hidden, axis=1))
    return tuple(numbered)


def _padded(x, value, axis=2):
    pad = [(0, 0)] * x.ndim
    pad[axis] = (0, -x.shape[axis] % TILE)
    return jnp.pad(x, pad, constant_values=value)


def _apart(run, divided, q):
    """``run`` on each device's own rows and heads: XLA divides no Pallas kernel."""
    mesh = jax.sharding.get_abstract_mesh()
    free = set(mesh.axis_names) - set(mesh.manual_axes)
    if not free:
        return run

    def over(axes, size):
        axes = (axes,) if isinstance(axes, str) else axes or ()
        axes = tuple(axis for axis in axes if axis in free)
        whole = size % math.prod(mesh.shape[axis] for axis in axes)
        return None if whole else axes

    rows, heads = (divided[0], divided[2]) if divided else (None, None)
    rows, heads = over(rows, q.shape[0]), over(heads, q.shape[1])
    states, numbers = PartitionSpec(rows, heads), PartitionSpec(rows)
    return jax.shard_map(
        run,
        in_specs=(states, states, states, numbers),
        out_specs=states,
        axis_names=free,
        check_vma=False,
    )


def _of_rows(q, k, v, segments, causal, window, interpret):
    """Queries [B, H, T', K], k [B, H, S', K], v [B, H, S', K'] -> [B, H, T', K']."""
    from jax.experimental.pallas.ops.tpu import splash_attention as pallas  # 1 s

    heads, shape = q.shape[1], (q.shape[2], k.shape[2])
    if window is not None:
        mask = pallas.LocalMask(shape, (window - 1, 0 if causal else window - 1), 0)
    else:
        mask = (pallas.CausalMask if causal else pallas.FullMask)(shape)
    of_q, of_kv = (next(n for n in BLOCKS if size % n == 0) for size in shape)
    names = ("block_q", "block_q_dkv", "block_q_dq")
    sizes = dict.fromkeys(names, of_q)
    names = ("block_kv", "block_kv_dkv", "block_kv_dq")
    sizes |= dict.fromkeys(names, of_kv)
    kernel = pallas.make_splash_mha_single_device(
        pallas.MultiHeadMask([mask] * heads),
        block_sizes=pallas.BlockSizes(**sizes),
        interpret=interpret,
    )
    sinks = jnp.full(heads, SINK, jnp.float32)

    def of_row(q, k, v, segments):
        return kernel(q, k, v, segments and pallas.SegmentIds(*segments), sinks)

    return jax.vmap(of_row)(q, k, v, segments)
