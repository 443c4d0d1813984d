"""From what the encoder has read to the first states of the decoder."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from tfm_jax.layers.linear import Linear
from tfm_jax.layers.recurrent.encoder import Encoded
from tfm_jax.ops.recurrence import CELLS, States


class Bridge(NamedTuple):
    """Where the decoder's first states come from.

    Attributes:
        reads: directions of the encoder whose last states they are made of.
        maps: an affine map and tanh make them.
    """

    reads: tuple[str, ...]
    maps: bool


BOTH = ("forward", "backward")
BRIDGES = {
    "copy": Bridge(BOTH, maps=False),  # Sutskever et al. 2014, section 2
    # Bahdanau et al. 2015, appendix A.2.2
    "tanh_backward": Bridge(("backward",), maps=True),
    "tanh": Bridge(BOTH, maps=True),
    "zeros": Bridge((), maps=False),
}


class Bridges(nn.Module):
    """A bridge for each layer of the decoder; ``cfg`` is ``RecurrentArch``.

    A layer gets what the layer of its number in the encoder has read, or the last.
    """

    cfg: Any

    def setup(self):
        if BRIDGES[self.cfg.bridge].maps:
            self.layer = [_Map(self.cfg) for _ in range(self.cfg.decoder_depth)]

    def __call__(
        self, encoded: Encoded, segments: jax.Array, wanted: jax.Array
    ) -> tuple[tuple[States, ...], jax.Array | None]:
        """What is known of the sentences ``wanted`` [B, N], by their segments [B, S].

        Returns: (first states of each layer [B, N, H], and the context [B, N, D] if the
            decoder has one that does not change).
        """
        cfg, kind = self.cfg, BRIDGES[self.cfg.bridge]
        ends = _ends(segments, wanted)
        layers = [
            {name: _at(states, ends[name]) for name, states in layer.items()}
            for layer in encoded.states
        ]
        context = None
        if not cfg.attends and cfg.has_context:
            ends_of_last = [layers[-1][name][0] for name in cfg.directions]
            context = jnp.concatenate(ends_of_last, axis=-1)
        first = []
        for number in range(cfg.decoder_depth):
            layer = layers[min(number, cfg.encoder_depth - 1)]
            read = [layer[name] for name in kind.reads if name in layer]
            if kind.maps:
                read = [self.layer[number](read)]
            zeros = tuple(map(jnp.zeros_like, next(iter(layer.values()))))
            first.append(read[0] if read else zeros)
        return tuple(first), context


class _Map(nn.Module):
    """tanh of a map of h, and a map of c as it is."""

    cfg: Any

    def setup(self):
        cfg, axes = self.cfg, ("embed", "mlp")
        self.map = [
            Linear((cfg.width,), axes, cfg.init, dtype=jnp.dtype(cfg.dtype))
            for _ in range(CELLS[cfg.cell].states)
        ]

    def __call__(self, read):
        """States of each direction -> those of one layer."""
        both = [jnp.concatenate(states, axis=-1) for states in zip(*read, strict=True)]
        h, *c = (project(x) for project, x in zip(self.map, both, strict=True))
        return jnp.tanh(h), *c


def _ends(segments, wanted):
    """The step at which each direction has read the sentences ``wanted`` [B, N].

    Returns: direction -> [B, N]; -1 where there is no such sentence.
    """
    steps = jnp.arange(segments.shape[1])
    within = (wanted[:, :, None] == segments[:, None]) & (segments > 0)[:, None]
    last = jnp.max(jnp.where(within, steps, -1), axis=-1)
    first = jnp.min(jnp.where(within, steps, len(steps)), axis=-1)
    return {"forward": last, "backward": jnp.where(last < 0, -1, first)}


def _at(states, columns):
    """Columns [B, N] of states [B, S, H]; zeros where a column is -1."""
    index = columns[:, :, None]
    return tuple(
        jnp.where(index < 0, 0, jnp.take_along_axis(x, jnp.maximum(index, 0), axis=1))
        for x in states
    )
