"""The encoder: layers of one or two directions over whole sentences."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from tfm_jax.layers.recurrent.layer import RecurrentLayer, drop, step_keys
from tfm_jax.ops.recurrence import States


class Encoded(NamedTuple):
    """What a recurrent encoder has read.

    Attributes:
        memory: [B, S, D], outputs of the last layer, of both directions side by side.
        states: of each layer, those behind each step: [B, S, H] a direction.
    """

    memory: jax.Array
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
        cfg, states = self.cfg, []
        changes = segments[1:] != segments[:-1]
        edge = jnp.ones_like(changes[:1])
        starts = {
            "forward": jnp.concatenate([edge, changes]) if packed else None,
            "backward": jnp.concatenate([changes, edge]),
        }
        for number, layer in enumerate(self.layer):
            if number and train and cfg.dropout:
                x = drop(x, cfg.dropout, self._keys(len(x)))
            found = layer(x, starts)
            x = jnp.concatenate([one[0] for one in found.values()], axis=-1)
            states.append(found)
        return Encoded(*jax.tree.map(lambda y: jnp.swapaxes(y, 0, 1), (x, (*states,))))

    def _keys(self, steps):
        return step_keys(self.make_rng("dropout"), steps, self.cfg.dropout_mask)


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
