"""Block and Stack: a layer of parts, and a pattern of layers."""

import dataclasses
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import jax
import jax.numpy as jnp
from flax import linen as nn

from tfm_jax.layers import layout
from tfm_jax.layers.arch import REMATS, Arch
from tfm_jax.layers.linear import RESIDUAL_INITS, constrain
from tfm_jax.layers.norms import NORM_KINDS
from tfm_jax.layers.parts import (
    ENCODER,
    PARTS,
    ROWS,
    Cache,
    CachedStep,
    Context,
    Memory,
    Part,
    Prefill,
)
from tfm_jax.layers.positions import POSITIONS, PositionBias
from tfm_jax.layers.residual import NORM_PLACEMENTS, Residual
from tfm_jax.layers.sharing import shared_from
from tfm_jax.ops.masks import combine, to_bias

NO_WINDOW = 1 << 30  # wider than any row


class Block(nn.Module):
    """One layer: its parts in order, each with its residual connection.

    Source: Vaswani et al. 2017, section 3.1 and figure 1. Deviates: no.
    """

    cfg: Arch
    parts: tuple[Part, ...]
    sublayers: int  # of the whole stack, for the initial values
    condition: str = "none"  # a key of CONDITIONS

    def setup(self):
        each = [
            (part, dataclasses.replace(self.cfg, **dict(part.changes)))
            for part in self.parts
        ]
        out_scale = RESIDUAL_INITS[self.cfg.residual_init](self.sublayers)
        self.modules = [
            PARTS[part.kind].build(cfg, out_scale, part.name) for part, cfg in each
        ]
        self.residuals = [
            Residual(
                placement=cfg.norm,
                kind=cfg.norm_kind,
                epsilon=cfg.norm_eps,
                dropout=cfg.dropout,
                add=cfg.residual,
                dtype=jnp.dtype(cfg.dtype),
                gate=part.gate,
                condition=self.condition,
                name=f"{part.name}_residual",
            )
            for part, cfg in each
        ]

    def __call__(
        self,
        x: jax.Array,
        context: Context,
        caches: tuple[Cache, ...] | None = None,
        owners: "tuple[Block, ...] | None" = None,
        *,
        train: bool,
    ) -> tuple[jax.Array, tuple[Cache, ...]]:
        """[B, T, D] -> ([B, T, D], caches), in any mode of ``Context``.

        Args:
            caches: one a part, see ``Stack.init_cache``; None in a full pass.
            owners: the block that has the parameters of each part; None: this one.
        """
        caches = caches or (None,) * len(self.parts)
        owners = owners or (self,) * len(self.parts)
        updated = []
        for part, cache, owner in zip(self.parts, caches, owners, strict=True):
            x, cache = owner.apply_part(part, x, context, cache, train=train)
            updated.append(cache)
        return constrain(x, "batch", "length", "embed"), tuple(updated)

    def apply_part(
        self, part: Part, x: jax.Array, context: Context, cache: Cache, *, train: bool
    ) -> tuple[jax.Array, Cache]:
        """One residual sub-layer: [B, T, D] -> ([B, T, D], cache)."""
        i, length = self.parts.index(part), x.shape[1]
        first, end, _ = ROWS[part.rows](context.queries).indices(length)
        if first >= end:
            return x, cache

        def sublayer(y):
            call = PARTS[part.kind].call
            return call(self.modules[i], part, y, context, cache, train)

        whole = end - first == length
        y, cache = self.residuals[i](
            x if whole else x[:, first:end], sublayer, context.condition, train=train
        )
        if not whole:
            y = jax.lax.dynamic_update_slice_in_dim(x, y, first, 1)
        return y, cache

    def init_cache(
        self, part: Part, batch: int, slots: int, memories: Mapping[str, Memory]
    ) -> Cache:
        """Cache of one part, before the first token."""
        module = self.modules[self.parts.index(part)]
        return PARTS[part.kind].cache(module, part, batch, slots, memories)


class _Period(nn.Module):
    """The blocks of one period of a pattern, for a scan over periods."""

    blocks: tuple[Block, ...]


def _within(context, window):
    """``context`` for a layer that sees ``window`` keys on either side; 0: all."""
    if isinstance(window, int) and window == 0:
        return context
    mask = dataclasses.replace(context.mask, window=window)
    return dataclasses.replace(context, mask=mask)


def _within_one_of(context, windows):
    """``context`` for a layer whose window is known to be one of ``windows`` alone."""
    windows = tuple(sorted({window or NO_WINDOW for window in windows}))
    mask = dataclasses.replace(context.mask, windows=windows)
    return dataclasses.replace(context, mask=mask)


class Stack(nn.Module):
    """``depth`` layers that cycle a pattern, and a final norm if the placement has one.

    A scan runs over periods of the pattern, of which ``depth`` holds a whole number.
    """

    cfg: Arch
    depth: int
    causal: bool
    pattern: tuple[tuple[Part, ...], ...] = (ENCODER,)
    share: str = "none"  # a key of SHARES; others need the unrolled layout
    groups: int = 1
    condition: str = "none"  # a key of CONDITIONS

    def setup(self):
        cfg = self.cfg
        self.position_bias = PositionBias(cfg.positions, cfg.heads, not self.causal)
        self.windows = [cfg.window(i) for i in range(self.depth)]
        layers = layers_of(self.pattern, self.depth)
        self.owners = shared_from(self.share, self.groups, layers)
        names = layout.NAMES[cfg.layout](layers)
        sublayers = sum(map(len, layers))
        self.layer = [
            Block(cfg, layers[i], sublayers, self.condition, name=name)
            for i, name in enumerate(names)
        ]
        self.period = _Period(tuple(self.layer))
        if NORM_PLACEMENTS[cfg.norm].final:
            make, dtype = NORM_KINDS[cfg.norm_kind], jnp.dtype(cfg.dtype)
            self.final_norm = make(epsilon=cfg.norm_eps, dtype=dtype, name=None)

    def __call__(
        self, x: jax.Array, positions: jax.Array, context: Context, *, train: bool
    ) -> jax.Array:
        """[B, T, D], positions [B, T] -> [B, T, D]."""
        cfg, context = self.cfg, self._everywhere(positions, context)

        def body(block, x, context, window=None, owners=None):
            if window is not None:
                context = _within(context, window)
            return block(x, context, owners=owners, train=train)[0]

        if policy := REMATS[cfg.remat]:
            body = nn.remat(
                body,
                prevent_cse=cfg.layout == "unrolled",
                policy=policy,
            )
        run = {"unrolled": self._unrolled, "scanned": self._scanned}[cfg.layout]
        return self._finish(run(body, x, context))

    def _unrolled(self, body, x, context):
        for block, owners, window in self._layers(self.windows):
            x = body(block, x, _within(context, window), None, owners)
        return x

    def _scanned(self, body, x, context):
        windows = [self.windows[i :: len(self.layer)] for i in range(len(self.layer))]
        # one body for many layers: where their windows differ, they are its inputs
        differing = [
            jnp.array([w or NO_WINDOW for w in each]) if len(set(each)) > 1 else None
            for each in windows
        ]

        alone = len(self.layer) == 1  # needs no module around it, which has keys too

        def one_period(period, x, context, differing):
            blocks = (period,) if alone else period.blocks
            for block, each, window in zip(blocks, windows, differing, strict=True):
                if window is None:
                    seen = _within(context, each[0])
                else:
                    seen = _within_one_of(context, each)
                x = body(block, x, seen, window)
            return x, None

        scan = nn.scan(
            one_period,
            variable_axes={"params": 0, "intermediates": 0},
            split_rngs={"params": True, "dropout": True},
            in_axes=(nn.broadcast, 0),
            length=self.depth // len(self.layer),
            metadata_params={nn.PARTITION_NAME: "layers"},
        )
        return scan(self.layer[0] if alone else self.period, x, context, differing)[0]

    def _layers(self, *of_each):
        """(block, blocks that have the parameters of its parts, ...) of each layer."""
        owners = [tuple(self.layer[i] for i in numbers) for numbers in self.owners]
        return zip(self.layer, owners, *of_each, strict=True)

    def _everywhere(self, positions, context):
        """``context`` with what all layers share of the ``positions`` [B, T]."""
        return dataclasses.replace(
            context,
            bias=self.position_bias(positions, positions),
            positions=positions if POSITIONS[self.cfg.positions].rotates else None,
        )

    def _finish(self, x):
        return self.final_norm(x) if NORM_PLACEMENTS[self.cfg.norm].final else x

    def init_cache(
        self,
        batch: int,
        hypotheses: int,
        length: int,
        memories: Mapping[str, Memory] = MappingProxyType({}),
    ) -> tuple[tuple[Cache, ...], ...]:
        """Caches before the first token: a tuple a layer, in it one entry a part.

        They are those of ``PARTS``: the past of self-attention, [B, H, K, T * W] and
        [B, H, K', T * W], the W hypotheses of the first token before those of the
        second; keys and values of a memory, [B, H, K, S] and [B, H, K', S]; or None.
        They lie as the two products of attention read them: a step copies neither.

        Args: memories: name -> ``Memory``, for cross-attention.
        """
        return tuple(
            tuple(
                owner.init_cache(part, batch, length * hypotheses, memories)
                for part, owner in zip(block.parts, owners, strict=True)
            )
            for block, owners in self._layers()
        )

    def prefill(
        self,
        x: jax.Array,
        caches: Sequence[tuple[Cache, ...]],
        hypotheses: int,
        positions: jax.Array,
        context: Context,
    ) -> tuple[jax.Array, tuple[tuple[Cache, ...], ...]]:
        """[B, P, D] in slots 0 .. P - 1 of empty caches -> ([B, P, D], caches)."""
        context = self._everywhere(positions, context)
        context = dataclasses.replace(context, mode=Prefill(hypotheses))
        return self._advance(x, caches, [_within(context, w) for w in self.windows])

    def step(
        self,
        x: jax.Array,
        caches: Sequence[tuple[Cache, ...]],
        index: jax.Array,
        context: Context,
        *,
        visible: jax.Array,
    ) -> tuple[jax.Array, tuple[tuple[Cache, ...], ...]]:
        """[B, W, D] at position ``index`` -> ([B, W, D], caches).

        Args:
            context: memories without states. Causality is in ``visible``, no mask.
            visible: [B, W, T * W] bool, which slots of the past each hypothesis sees.
        """
        width = x.shape[1]
        here = jnp.full((1, 1), index)
        slots = jnp.arange(visible.shape[-1] // width)
        distance = self.position_bias(here, slots[None])
        if distance is not None:
            distance = jnp.repeat(distance, width, axis=-1)
        near = jnp.repeat(index - slots, width)
        rotates = POSITIONS[self.cfg.positions].rotates
        contexts = {
            w: dataclasses.replace(
                context,
                bias=combine(
                    to_bias(visible & (near < w) if w else visible)[:, None], distance
                ),
                positions=here if rotates else None,
                mode=CachedStep(index * width),
            )
            for w in set(self.windows)
        }
        return self._advance(x, caches, [contexts[w] for w in self.windows])

    def _advance(self, x, caches, contexts):
        updated = []
        for block, owners, cache, context in self._layers(caches, contexts):
            x, cache = block(x, context, cache, owners, train=False)
            updated.append(cache)
        return self._finish(x), tuple(updated)


def layers_of(
    pattern: tuple[tuple[Part, ...], ...], depth: int
) -> tuple[tuple[Part, ...], ...]:
    """The parts of each of ``depth`` layers.

    Raises: ValueError for layers that differ, but not in the names of their parts, by
        which stored parameters are told apart.
    """
    by_names: dict[frozenset[str], tuple[Part, ...]] = {}
    for parts in pattern:
        names = frozenset(part.name for part in parts)
        if len(names) < len(parts) or by_names.setdefault(names, parts) != parts:
            raise ValueError(
                f"pattern={pattern}: the names of its parts, {sorted(names)}, must "
                "differ within a layer and between layers that are not equal"
            )
    return tuple(pattern[i % len(pattern)] for i in range(depth))
