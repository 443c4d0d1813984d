"""The encoder: layers of one or two directions over whole sentences."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from tfm_jax.layers.recurrent.layer import RecurrentLayer, drop, starts, step_keys
from tfm_jax.ops.recurrence import States


class Encoded(NamedTuple):
    """What a recurrent encoder has read.

    Attributes:
        outputs: [B, S, D], of the last layer, of both directions side by side.
        states: of each layer, those behind each step: [B, S, H] a direction.
    """

    outputs: jax.Array
    states: tuple[dict[str, States], ...]


class Encoder(nn.Module):
    """Layers of one or two directions; a layer reads both of the one below."""

    cfg: Any

    def setup(self):
        cfg = self.cfg
        widths = [cfg.embedding_width] + [cfg.memory_width] * (cfg.encoder_depth - 1)
        self.layer = [_Directions(cfg, width) for width in widths]

    def __call__(
        self, x: jax.Array, segments: jax.Array, *, packed: bool, train: bool
    ) -> Encoded:
        """[S, B, E], segments [S, B] -> ``Encoded``."""
        begins = {
            "forward": starts(segments) if packed else None,
            "backward": starts(segments[::-1])[::-1],
        }
        layers = []
        for number, layer in enumerate(self.layer):
            if number:
                x = drop(x, self.cfg.dropout, step_keys(self, len(x), train=train))
            states = layer(x, begins)
            x = jnp.concatenate([outputs for outputs, *_ in states.values()], axis=-1)
            layers.append(states)
        return jax.tree.map(lambda y: jnp.swapaxes(y, 0, 1), Encoded(x, (*layers,)))


class _Directions(nn.Module):
    """The directions of one layer."""

    cfg: Any
    inputs: int

    def setup(self):
        for name in self.cfg.directions:
            setattr(self, name, RecurrentLayer(self.cfg, self.inputs))

    def __call__(self, x, starts):
        return {
            name: getattr(self, name)(x, starts[name], reverse=name == "backward")
            for name in self.cfg.directions
        }
