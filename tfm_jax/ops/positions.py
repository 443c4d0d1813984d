"""Where a token stands: sinusoids, rotation, and biases on the distance."""

import math

import jax
import jax.numpy as jnp
import numpy as np

DIGIT, DIGITS = 64, 3  # positions are below DIGIT ** DIGITS = 262,144


def sinusoid(positions: jax.Array, width: int) -> jax.Array:
    """Sinusoidal position vectors, sine and cosine interleaved.

    Source: Vaswani et al. 2017, section 3.5: channel 2i holds sin(p / 10000^(2i/D)),
    channel 2i+1 the cosine. Deviates: no.
    Args: positions: [B, T] int. width: D, even. Returns: [B, T, D] float32.
    """
    waves = jnp.stack(_waves(positions, _rates(width)), axis=-1)
    return waves.reshape(*positions.shape, width)


def sinusoid_halves(positions: jax.Array, width: int) -> jax.Array:
    """The same numbers, all sines before all cosines (Marian's channel order)."""
    return jnp.concatenate(_waves(positions, _rates(width)), axis=-1)


def sincos_2d(positions: jax.Array, width: int) -> jax.Array:
    """Sinusoids of columns x and rows y of a grid: sin x, cos x, sin y, cos y.

    Source: Beyer et al. 2022, arXiv:2205.01580, section 2, and the released code: the
    D / 4 rates go from 1 to 1/10000, both included. Deviates: no.
    Args: positions: [B, T, 2] int, (x, y). width: D, a multiple of 4.
    Returns: [B, T, D] float32.
    """
    return _on_grid(positions, np.geomspace(1.0, 1e-4, width // 4))


def sincos_2d_mae(positions: jax.Array, width: int) -> jax.Array:
    """The same with rates 10000^(-4i/D), so that 1/10000 is none of them.

    Source: He et al. 2022, arXiv:2111.06377, released code; DiT. Deviates: no.
    """
    return _on_grid(positions, _rates(width // 2))


def _on_grid(positions, rates):
    waves = [w for axis in (0, 1) for w in _waves(positions[..., axis], rates)]
    return jnp.concatenate(waves, axis=-1)


def _rates(width, base=10_000.0):
    return base ** (-np.arange(0, width, 2) / width)


def _waves(positions, rates):
    """Sine and cosine [..., rates] of every angle, exact to float32's last digits.

    A large angle has lost its phase once it is rounded to float32. So the waves of each
    digit of a position are computed in float64, ahead of time, and added as angles.
    """
    sine, cosine = 0.0, 1.0
    for place in DIGIT ** np.arange(DIGITS):
        angles = np.outer(np.arange(DIGIT) * place, rates)
        digit = positions // int(place) % DIGIT
        s, c = (jnp.asarray(f(angles), jnp.float32)[digit] for f in (np.sin, np.cos))
        sine, cosine = sine * c + cosine * s, cosine * c - sine * s
    return sine, cosine


def rotate(x: jax.Array, positions: jax.Array) -> jax.Array:
    """Rotary position embedding of queries or keys.

    Source: Su et al. 2021, arXiv:2104.09864, equation 34; on a grid, Heo et al. 2024,
    arXiv:2403.13298, section 3.2, "axial": the first half of the channels turns with
    the columns, the second with the rows, and the base is 100.
    Deviates: channel i is paired with i + K/2 instead of i + 1, a fixed permutation; on
    a grid likewise in each half.
    Args: x: [B, T, H, K], K even. positions: [B, T] int, or [B, T, 2] (x, y) on a grid,
        K a multiple of 4. Returns: like x.
    """
    if positions.ndim == 2:
        return _rotate(x, positions, 10_000.0)
    halves = enumerate(jnp.split(x, 2, axis=-1))
    turned = [_rotate(half, positions[..., axis], 100.0) for axis, half in halves]
    return jnp.concatenate(turned, axis=-1)


def _rotate(x, positions, base):
    waves = _waves(positions, _rates(x.shape[-1], base))
    sin, cos = (wave[:, :, None, :].astype(x.dtype) for wave in waves)
    left, right = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([left * cos - right * sin, right * cos + left * sin], -1)


def alibi_slopes(heads: int) -> jax.Array:
    """[H] slopes: 2^(-8/H), 2^(-16/H), and so on.

    If H is no power of two: those of the next smaller power, then every second one of
    the next larger.

    Source: Press et al. 2022, arXiv:2108.12409, section 3. Deviates: no.
    """
    power = 2 ** math.floor(math.log2(heads))
    slopes = [2.0 ** (-8.0 * (h + 1) / power) for h in range(power)]
    extra = [2.0 ** (-4.0 * (2 * h + 1) / power) for h in range(heads - power)]
    return jnp.asarray(slopes + extra, jnp.float32)


def alibi_bias(
    q_positions: jax.Array, kv_positions: jax.Array, heads: int
) -> jax.Array:
    """[B, H, T, S] float32: minus slope times distance.

    Deviates: symmetric in the distance, so that an encoder can use it too; under a
    causal mask this is the published bias.
    """
    distance = jnp.abs(q_positions[:, :, None] - kv_positions[:, None, :])
    slopes = alibi_slopes(heads)[None, :, None, None]
    return -slopes * distance[:, None].astype(jnp.float32)


def relative_buckets(
    q_positions: jax.Array,
    kv_positions: jax.Array,
    *,
    bidirectional: bool,
    buckets: int = 32,
    limit: int = 128,
) -> jax.Array:
    """[B, T, S] int32 bucket of each distance, in [0, buckets).

    Source: Raffel et al. 2020, arXiv:1910.10683, section 2.1: half of the buckets are
    exact distances, the others grow logarithmically up to ``limit``, the last one
    takes all that is farther. An encoder spends one half on each direction.
    Deviates: no.
    """
    offset = kv_positions[:, None, :] - q_positions[:, :, None]
    base = jnp.zeros_like(offset)
    if bidirectional:
        buckets //= 2
        base = jnp.where(offset > 0, buckets, 0)
        distance = jnp.abs(offset)
    else:
        distance = jnp.maximum(-offset, 0)
    exact = buckets // 2
    ratio = jnp.log(jnp.maximum(distance, 1) / exact) / math.log(limit / exact)
    far = exact + (ratio * (buckets - exact)).astype(jnp.int32)
    far = jnp.minimum(far, buckets - 1)
    return base + jnp.where(distance < exact, distance, far)
