"""Attention of a recurrent decoder over what its encoder has read."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from tfm_jax.layers.attention import KeyValue
from tfm_jax.layers.linear import INITS, Linear, parameter
from tfm_jax.layers.recurrent.layer import Affine, biased
from tfm_jax.ops.attention import SCORES, attention
from tfm_jax.ops.masks import Mask


class Alignment(NamedTuple):
    """``score``, a key of ``SCORES``, of maps of the decoder's and encoder's states."""

    score: str
    maps_query: bool
    maps_key: bool
    bias: bool = False  # on the map of the query


ALIGNMENTS: dict[str, Any] = {  # -> Alignment, or None
    "none": None,  # Sutskever et al. 2014, Cho et al. 2014
    # Bahdanau et al. 2015, arXiv:1409.0473, appendix A.1.2
    "additive": Alignment("additive", True, True),
    # Luong et al. 2015, arXiv:1508.04025, section 3.1
    "dot": Alignment("dot", False, False),
    "general": Alignment("dot", True, False),
    # the same as "additive"; with the bias that code has, and the paper has not
    "concat": Alignment("additive", True, True, bias=True),
}


class ProjectedMemory(NamedTuple):
    """Keys [B, S, 1, K] and values [B, S, 1, D] of the encoder's outputs.

    Attributes: mask: of one sentence a row, or of the segments [B, S] of several.
    """

    kv: KeyValue
    mask: Mask


class RecurrentAttention(nn.Module):
    """One head whose values are the memory itself; ``cfg`` is of ``RecurrentArch``.

    ``project`` a memory once; ``attend``, inside of a scan, by ``parameters``.
    """

    cfg: Any

    def setup(self):
        cfg, kind = self.cfg, ALIGNMENTS[self.cfg.score]
        init, dtype = INITS[cfg.init], jnp.dtype(cfg.dtype)
        size = cfg.alignment_size
        if kind.maps_query:
            bias = init.bias if kind.bias else None
            self.query = Affine(cfg.width, size, init.kernel, bias, dtype)
        if kind.maps_key:
            axes = ("embed", "mlp")
            self.key = Linear((size,), axes, cfg.init, bias=False, dtype=dtype)
        if SCORES[kind.score].shape:

            def vector(key, shape, dtype):
                return init.kernel(key, (size, 1), dtype).reshape(shape)

            self.vector = parameter(self, "score", vector, (1, size))

    def project(
        self, memory: jax.Array, segments: jax.Array, *, packed: bool
    ) -> ProjectedMemory:
        """[B, S, D] and segments [B, S] -> what is attended to."""
        keys = self.key(memory) if ALIGNMENTS[self.cfg.score].maps_key else memory
        kv = KeyValue(keys[:, :, None], memory[:, :, None])
        return ProjectedMemory(kv, Mask.between(None, segments, packed=packed))

    def parameters(self) -> tuple[dict[str, jax.Array], dict[str, jax.Array | None]]:
        """(kernels that ``attend`` multiplies with, other arrays that it reads)."""
        kind = ALIGNMENTS[self.cfg.score]
        return {"query": self.query.kernel} if kind.maps_query else {}, {
            "query": self.query.bias if kind.maps_query else None,
            "score": self.vector if SCORES[kind.score].shape else None,
        }

    @property
    def records(self) -> bool:
        """Whether weights are asked for."""
        return self.is_mutable_collection("intermediates")

    def record(self, weights: jax.Array) -> None:
        """Keeps ``weights`` [B, T, S] of its head."""
        self.sow("intermediates", "weights", weights[:, None])


def attend(
    cfg: Any,
    product: Callable,
    arrays: Mapping[str, Any],
    memory: ProjectedMemory,
    states: jax.Array,
    segments: jax.Array | None,
    records: bool,
) -> tuple[jax.Array, jax.Array | None]:
    """Context vectors of decoder states.

    Args:
        product: see ``ops.recurrence.scan``.
        arrays, memory: of ``RecurrentAttention``.
        states: [B, T, H]. segments: [B, T]; None: the memory is one sentence a row.
    Returns: ([B, T, D], weights [B, T, S] if ``records``).
    """
    kind, recorded = ALIGNMENTS[cfg.score], []
    query, (kv, mask) = states, memory
    if segments is not None:
        mask = dataclasses.replace(mask, q_segments=segments)
    if kind.maps_query:
        query = biased(product("query", states), arrays["query"])

    def record(weights):
        recorded.append(weights[:, 0])
        return weights

    context = attention(
        query[:, :, None],
        *kv,
        mask=mask,
        score=kind.score,
        parameter=arrays["score"],
        transform=record if records else None,
        implementation="xla" if records else cfg.attention,
    )
    return context[:, :, 0], recorded[0] if records else None
