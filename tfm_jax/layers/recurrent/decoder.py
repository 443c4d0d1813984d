"""A recurrent decoder: its step, and the scan of it over whole targets."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from tfm_jax.layers.arch import REMATS
from tfm_jax.layers.attention import KeyValue
from tfm_jax.layers.linear import INITS
from tfm_jax.layers.recurrent.alignment import RecurrentAttention, attend
from tfm_jax.layers.recurrent.layer import (
    Affine,
    RecurrentLayer,
    advance,
    biased,
    reset,
)
from tfm_jax.ops.dropout import dropout
from tfm_jax.ops.masks import Mask
from tfm_jax.ops.recurrence import CELLS, States, multiply, scan


class Readout(NamedTuple):
    """What logits are made of, besides a state of the last layer and the context.

    Attributes:
        earlier: the state is that before the step.
        embedding: the vector of the token that was read goes in, too.
        maps: units of the map, a readout unit; 0: there is none.
        squash: of what is mapped, [..., maps * R] -> [..., R].
    """

    earlier: bool = False
    embedding: bool = False
    maps: int = 0
    squash: Callable = lambda x: x


def _maxout(x):
    """Goodfellow et al. 2013, arXiv:1302.4389, of pairs."""
    return jnp.max(x.reshape(*x.shape[:-1], -1, 2), axis=-1)


READOUTS = {
    # the output map reads them as they are: Sutskever et al. 2014
    "plain": Readout(),
    "plain_with_embedding": Readout(embedding=True),
    # Luong et al. 2015, equation 5
    "tanh": Readout(maps=1, squash=jnp.tanh),
    # Bahdanau et al. 2015, arXiv:1409.0473, appendix A.2.2
    "maxout": Readout(earlier=True, embedding=True, maps=2, squash=_maxout),
}


class Past(NamedTuple):
    """What a decoder remembers, of W hypotheses a row.

    Attributes:
        states: of each layer, [B, W, H] each.
        fed: [B, W, R], the readout before, or None.
        written: [B, W] its own likeliest tokens, or None.
    """

    states: tuple[States, ...]
    fed: jax.Array | None = None
    written: jax.Array | None = None


class Inputs(NamedTuple):
    """What a decoder is given at a step.

    Attributes:
        gates: [B, W, G * H], what the first layer makes of the embedded tokens, bias
            included; None where the step itself has to see which tokens it reads.
        embedded: [B, W, E], likewise.
        segments: [B, W], of the memory it attends to; None: the memory is one sentence.
        context: [B, W, D] of a decoder that does not attend.
        start: [B, W] bool, where a sentence begins; None: nowhere.
        initial: ``Past.states`` there.
        tokens: [B, W]. forced: [B, W] bool, where they are read instead of its own.
        key: for dropout; None: nothing is dropped.
    """

    gates: jax.Array | None = None
    embedded: jax.Array | None = None
    segments: jax.Array | None = None
    context: jax.Array | None = None
    start: jax.Array | None = None
    initial: Any = None
    tokens: jax.Array | None = None
    forced: jax.Array | None = None
    key: jax.Array | None = None


class Found(NamedTuple):
    """What a step leaves; all of it that nothing is left to be done with is None.

    Attributes:
        before, after: [B, W, H], output of the last layer before and behind the step.
        context: [B, W, D]. embedded: [B, W, E].
        weights: [B, 1, W, S], if they are recorded.
        readout: [B, W, R]. logits: [B, W, V] float32.
    """

    before: jax.Array | None = None
    after: jax.Array | None = None
    context: jax.Array | None = None
    embedded: jax.Array | None = None
    weights: jax.Array | None = None
    readout: jax.Array | None = None
    logits: jax.Array | None = None


class Source(NamedTuple):
    """The encoder's side of attention.

    Attributes:
        read: keys and values [B, S, 1, K]; None if nothing attends.
        lengths: [B] of a memory of one sentence. segments: [B, S] of one of several.
    """

    read: KeyValue | None
    lengths: jax.Array | None = None
    segments: jax.Array | None = None

    def mask(self, segments: jax.Array | None) -> Mask:
        """Who is seen by queries of ``segments`` [B, T]."""
        if self.segments is None:
            return Mask(kv_lengths=self.lengths)
        return Mask(q_segments=segments, kv_segments=self.segments)


class DecoderLayer(RecurrentLayer):
    """A layer whose state may ask the encoder."""

    attends: bool = False

    def setup(self):
        super().setup()
        self.cross_attention = RecurrentAttention(self.cfg) if self.attends else None


class Decoder(nn.Module):
    """Recurrent layers, of which the last attends; ``cfg`` is of ``RecurrentArch``."""

    cfg: Any

    def setup(self):
        cfg = self.cfg
        init, dtype = INITS[cfg.init], jnp.dtype(cfg.dtype)
        widths = [cfg.embedding_width + cfg.joined_width]
        widths += [cfg.width] * (cfg.decoder_depth - 1)
        last = cfg.decoder_depth - 1
        self.layer = [
            DecoderLayer(cfg, width, cfg.attends and number == last)
            for number, width in enumerate(widths)
        ]
        kind = READOUTS[cfg.readout]
        if kind.maps:
            columns = kind.maps * cfg.readout_size
            read = cfg.readout_inputs
            self.readout = Affine(read, columns, init.kernel, init.bias, dtype)
        if cfg.tie == "none":
            columns = cfg.target_vocab
            self.output = Affine(cfg.readout_size, columns, init.kernel, None, dtype)
        if cfg.output_bias:
            self.output_bias = self.param("output_bias", init.bias, (cfg.target_vocab,))

    def read(self, memory: jax.Array) -> KeyValue | None:
        """Keys and values of a memory [B, S, D]; None if nothing attends to it."""
        attention = self.layer[-1].cross_attention
        return attention.read(memory) if attention else None

    def gates(self, embedded: jax.Array) -> jax.Array:
        """[..., E] -> [..., G * H], of the first layer without what joins."""
        own = self.layer[0].input
        x = multiply(embedded, own.kernel[: self.cfg.embedding_width], own.dtype)
        return biased(x, own.bias)

    def parameters(self, table: jax.Array) -> tuple[dict, dict]:
        """(kernels that a step multiplies with, other arrays that it reads).

        Args: table: [V, E] of the target's tokens.
        """
        cfg, layers = self.cfg, self.layer
        width, maps = cfg.embedding_width, READOUTS[cfg.readout].maps
        attention = layers[-1].cross_attention
        kernels = {
            "embedded": layers[0].input.kernel[:width],
            "joined": layers[0].input.kernel[width:],
            "output": self.output.kernel if cfg.tie == "none" else table.T,
        }
        for number, layer in enumerate(layers):
            kernels[f"recurrent_{number}"] = layer.recurrent.kernel
            kernels[f"input_{number}"] = layer.input.kernel
        if maps:
            kernels["readout"] = self.readout.kernel
        others = {
            "table": table,
            "input": [layer.input.bias for layer in layers],
            "candidate": [layer.candidate_bias for layer in layers],
            "readout": self.readout.bias if maps else None,
            "output": self.output_bias if cfg.output_bias else None,
        }
        if attention:
            others |= attention.parameters()
            kernels |= attention.kernels()
        return kernels, others

    def __call__(
        self, past: Past, inputs: Inputs, source: Source, table: jax.Array
    ) -> jax.Array:
        """Logits [B, T, V] of whole targets.

        Args: past: before the first step, W is 1. inputs: [T, ...] of its arrays.
        """
        cfg = self.cfg
        kernels, others = self.parameters(table)
        attention = self.layer[-1].cross_attention
        how = _How(
            cfg,
            within=cfg.input_feeding or inputs.forced is not None,
            records=bool(attention) and attention.records,
        )
        _, found = scan(
            functools.partial(_step, how),
            kernels,
            (others, source),
            past,
            inputs,
            jnp.dtype(cfg.dtype),
            remat=REMATS[cfg.remat],
        )
        if not how.within:  # what did not change in the scan
            found = found._replace(embedded=inputs.embedded)
        # [T, B, 1, ...] -> [B, T, ...]
        segments, found = jax.tree.map(
            lambda x: jnp.swapaxes(x[:, :, 0], 0, 1), (inputs.segments, found)
        )
        product = _plainly(kernels, cfg.dtype)
        found = _finish(how, product, others, source, found, segments)
        if how.records:
            attention.record(found.weights)
        return found.logits

    def step(
        self, past: Past, inputs: Inputs, source: Source, table: jax.Array
    ) -> tuple[jax.Array, Past]:
        """One step of W hypotheses: (logits [B, W, V], past)."""
        kernels, others = self.parameters(table)
        how = _How(self.cfg, within=self.cfg.input_feeding, records=False)
        product, shared = _plainly(kernels, self.cfg.dtype), (others, source)
        past, found = _step(how, product, shared, past, inputs)
        found = found._replace(embedded=inputs.embedded)
        return _finish(how, product, others, source, found, None).logits, past


class _How(NamedTuple):
    """Static part of a step.

    Attributes:
        within: logits are found step by step, because later steps depend on them.
        records: attention weights are kept.
    """

    cfg: Any
    within: bool
    records: bool


def _plainly(kernels, dtype):
    return lambda name, x: multiply(x, kernels[name], dtype)


def _step(how, product, shared, past, x):
    """One step: (past, found), see ``ops.recurrence.scan``."""
    cfg, (others, source) = how.cfg, shared
    cell, states, fed = CELLS[cfg.cell], past.states, past.fed
    if x.start is not None:
        pairs = zip(states, x.initial, strict=True)
        states = tuple(reset(old, x.start, new) for old, new in pairs)
        fed = None if fed is None else jnp.where(x.start[..., None], 0, fed)
    embedded, gates = x.embedded, x.gates
    if x.forced is not None:
        tokens = jnp.where(x.forced, x.tokens, past.written)
        embedded = jnp.take(others["table"], tokens, axis=0, mode="clip")
        embedded = _drop(cfg, embedded.astype(cfg.dtype), x.key, 0)
        gates = biased(product("embedded", embedded), others["input"][0])
    found = Found(before=states[-1][0], context=x.context, embedded=embedded)
    if cfg.attends and cfg.query == "previous":
        found = _ask(how, product, others, source, found, x.segments)
    joined = [found.context] if cfg.joins_context else []
    joined += [fed] if cfg.input_feeding else []
    if joined:
        gates = gates + product("joined", jnp.concatenate(joined, axis=-1))
    new = []
    for number, (old, bias) in enumerate(zip(states, others["candidate"], strict=True)):
        if number:
            below = _drop(cfg, new[-1][0], x.key, number)
            gates = biased(product(f"input_{number}", below), others["input"][number])
        recurrent = product(f"recurrent_{number}", old[0])
        new.append(advance(cell, gates, recurrent, bias, old))
    found = found._replace(after=new[-1][0])
    if how.within:
        found = _finish(how, product, others, source, found, x.segments)
    written = None if x.forced is None else jnp.argmax(found.logits, axis=-1)
    past = Past(tuple(new), found.readout if cfg.input_feeding else None, written)
    return past, _needed(how, found)


def _needed(how, found):
    """``found`` without what nothing is made of any more."""
    if how.within:
        return Found(logits=found.logits, weights=found.weights)
    cfg, earlier = how.cfg, READOUTS[how.cfg.readout].earlier
    asks = cfg.attends and cfg.query == "current"
    return found._replace(
        before=found.before if earlier else None,
        after=found.after if asks or not earlier else None,
        embedded=None,
    )


def _ask(how, product, others, source, found, segments):
    """``found`` with the context of the state that is the query."""
    states = found.before if how.cfg.query == "previous" else found.after
    mask = source.mask(segments)
    context, weights = attend(
        how.cfg, product, others, source.read, states, mask, records=how.records
    )
    return found._replace(context=context, weights=weights)


def _finish(how, product, others, source, found, segments):
    """``found`` with readout and logits, of one step or of all at once."""
    if found.logits is not None:
        return found
    cfg, kind = how.cfg, READOUTS[how.cfg.readout]
    if cfg.attends and cfg.query == "current":
        found = _ask(how, product, others, source, found, segments)
    read = [found.before if kind.earlier else found.after]
    read += [found.context] if cfg.has_context else []
    read += [found.embedded] if kind.embedding else []
    readout = jnp.concatenate(read, axis=-1)
    if kind.maps:
        readout = kind.squash(biased(product("readout", readout), others["readout"]))
    logits = biased(product("output", readout).astype(jnp.float32), others["output"])
    return found._replace(readout=readout, logits=logits)


def _drop(cfg, x, key, number):
    """Dropout of what layer ``number`` reads, if there is a key."""
    if key is None:
        return x
    return dropout(x, cfg.dropout, jax.random.fold_in(key, number))
