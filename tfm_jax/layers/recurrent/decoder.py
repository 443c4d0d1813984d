"""A recurrent decoder: its step, and the scan of it over whole targets."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from tfm_jax.layers.arch import REMATS
from tfm_jax.layers.linear import INITS, parameter
from tfm_jax.layers.recurrent.alignment import (
    ProjectedMemory,
    RecurrentAttention,
    attend,
)
from tfm_jax.layers.recurrent.layer import (
    Affine,
    RecurrentLayer,
    advance,
    biased,
    reset,
    spread_over_rows,
)
from tfm_jax.ops.dropout import dropout
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


class DecoderState(NamedTuple):
    """What a decoder carries from step to step, of W hypotheses a row.

    Attributes:
        layers: states of each layer, [B, W, H] each.
        readout: [B, W, R], the last one, for input feeding, or None.
        predicted: [B, W], its own likeliest tokens, or None.
    """

    layers: tuple[States, ...]
    readout: jax.Array | None = None
    predicted: jax.Array | None = None


class StepInputs(NamedTuple):
    """What a decoder is given at a step.

    Attributes:
        embedded: [B, W, E] tokens; None where the step itself looks them up.
        gates: [B, W, G * H], what the first layer makes of them, bias included.
        tokens: [B, W]. forced: [B, W] bool, where they are read, not its own.
        context: [B, W, D] of a decoder that does not attend.
        segments: [B, W], that are attended to; None: the memory is one sentence.
        start: [B, W] bool, where a sentence begins; None: nowhere.
        initial: ``DecoderState.layers`` there.
        key: for dropout; None: nothing is dropped.
    """

    embedded: jax.Array | None = None
    gates: jax.Array | None = None
    tokens: jax.Array | None = None
    forced: jax.Array | None = None
    context: jax.Array | None = None
    segments: jax.Array | None = None
    start: jax.Array | None = None
    initial: Any = None
    key: jax.Array | None = None


class StepOutputs(NamedTuple):
    """What a step leaves; None is what nothing is made of any more.

    Attributes:
        before, after: [B, W, H], output of the last layer before and behind the step.
        context: [B, W, D]. weights: [B, W, S], if they are recorded.
        readout: [B, W, R]. logits: [B, W, V] float32.
    """

    before: jax.Array | None = None
    after: jax.Array | None = None
    context: jax.Array | None = None
    weights: jax.Array | None = None
    readout: jax.Array | None = None
    logits: jax.Array | None = None


class DecoderLayer(RecurrentLayer):
    """A layer whose state may attend to the memory."""

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
            size = (cfg.target_vocab,)
            self.output_bias = parameter(self, "output_bias", init.bias, size)

    def project(
        self, memory: jax.Array, segments: jax.Array, *, packed: bool
    ) -> ProjectedMemory | None:
        """What is attended to of [B, S, D] in segments [B, S], if anything is."""
        attention = self.layer[-1].cross_attention
        return attention and attention.project(memory, segments, packed=packed)

    def init_state(self, initial: tuple[States, ...], width: int) -> DecoderState:
        """That before the first step of ``width`` hypotheses.

        Args: initial: states of each layer, [B, N, H], of which the first of N counts.
        """
        layers = jax.tree.map(lambda x: jnp.repeat(x[:, :1], width, axis=1), initial)
        state, size = layers[0][0], self.cfg.readout_size
        fed = jnp.zeros((*state.shape[:-1], size), state.dtype)
        return DecoderState(layers, fed if self.cfg.input_feeding else None)

    def __call__(
        self,
        state: DecoderState,
        inputs: StepInputs,
        memory: ProjectedMemory | None,
        table: jax.Array,
    ) -> jax.Array:
        """Logits [B, T, V] of whole targets.

        Args:
            state: before the first step, W is 1. inputs: [T, ...] of its arrays.
            table: [V, E] of the target's tokens.
        """
        cfg, attention = self.cfg, self.layer[-1].cross_attention
        kernels, arrays = self._parameters(table)
        make_step = functools.partial(
            _Step,
            cfg,
            cfg.input_feeding or inputs.forced is not None,
            bool(attention) and attention.records,
        )

        def body(product, constants, state, x):
            return make_step(product, *constants)(state, x)

        rows = state.layers[0][0].shape[:-1]  # [B, 1], as a score has [B, heads]
        _, outputs = scan(
            body,
            kernels,
            (spread_over_rows(arrays, rows), memory),
            state,
            self._with_gates(inputs),
            jnp.dtype(cfg.dtype),
            remat=REMATS[cfg.remat],
        )
        read = StepInputs(embedded=inputs.embedded, segments=inputs.segments)
        # [T, B, 1, ...] -> [B, T, ...]
        outputs, read = jax.tree.map(
            lambda x: jnp.swapaxes(x[:, :, 0], 0, 1), (outputs, read)
        )
        step = make_step(_plain(kernels, cfg.dtype), arrays, memory)
        outputs = step.finish(outputs, read)
        if outputs.weights is not None:
            attention.record(outputs.weights)
        return outputs.logits

    def step(
        self,
        state: DecoderState,
        inputs: StepInputs,
        memory: ProjectedMemory | None,
        table: jax.Array,
    ) -> tuple[jax.Array, DecoderState]:
        """One step of W hypotheses: (logits [B, W, V], state)."""
        kernels, arrays = self._parameters(table)
        product, fed = _plain(kernels, self.cfg.dtype), self.cfg.input_feeding
        step = _Step(self.cfg, fed, False, product, arrays, memory)
        state, outputs = step(state, self._with_gates(inputs))
        return step.finish(outputs, inputs).logits, state

    def _with_gates(self, inputs):
        """What the first layer makes of embedded tokens, of all at once."""
        if inputs.embedded is None:
            return inputs
        own = self.layer[0].input
        kernel = own.kernel[: self.cfg.embedding_width]
        gates = biased(multiply(inputs.embedded, kernel, own.dtype), own.bias)
        return inputs._replace(gates=gates)

    def _parameters(self, table):
        """(kernels that a step multiplies with, other arrays that it reads)."""
        cfg, layers = self.cfg, self.layer
        width, maps = cfg.embedding_width, READOUTS[cfg.readout].maps
        attention = layers[-1].cross_attention
        kernels = {
            "table": table,
            "embedded": layers[0].input.kernel[:width],
            "joined": layers[0].input.kernel[width:],
            "output": self.output.kernel if cfg.tie == "none" else table.T,
        }
        for number, layer in enumerate(layers):
            kernels[f"recurrent_{number}"] = layer.recurrent.kernel
            kernels[f"input_{number}"] = layer.input.kernel
        if maps:
            kernels["readout"] = self.readout.kernel
        arrays = {
            "input": [layer.input.bias for layer in layers],
            "candidate": [layer.candidate_bias for layer in layers],
            "readout": self.readout.bias if maps else None,
            "output": self.output_bias if cfg.output_bias else None,
        }
        if attention:
            of_kernels, of_arrays = attention.parameters()
            kernels, arrays = kernels | of_kernels, arrays | of_arrays
        return kernels, arrays


def _plain(kernels, dtype):
    """``product`` of ``ops.recurrence.scan``, outside of a scan."""
    return lambda name, x: multiply(x, kernels[name], dtype)


class _Step(NamedTuple):
    """One step, and what is computed of all at once where no later step depends on it.

    Attributes:
        stepwise: later steps depend on the logits, or the readout, of those before.
        records: attention weights are kept.
        product: see ``ops.recurrence.scan``. arrays: see ``Decoder._parameters``.
    """

    cfg: Any
    stepwise: bool
    records: bool
    product: Callable
    arrays: Mapping[str, Any]
    memory: ProjectedMemory | None

    def __call__(self, state, x):
        """(state, outputs) behind the step."""
        cfg, arrays, readout = self.cfg, self.arrays, state.readout
        layers = state.layers
        if x.start is not None:
            pairs = zip(layers, x.initial, strict=True)
            layers = [reset(old, x.start, new) for old, new in pairs]
            if cfg.input_feeding:
                readout = jnp.where(x.start[..., None], 0, readout)
        if x.forced is not None:
            tokens = jnp.where(x.forced, x.tokens, state.predicted)
            embedded = self.drop(self.product("table", tokens), x.key, 0)
            gates = biased(self.product("embedded", embedded), arrays["input"][0])
            x = x._replace(embedded=embedded, gates=gates)
        outputs = StepOutputs(before=layers[-1][0], context=x.context)
        if cfg.attends and cfg.query == "previous":
            outputs = self.attend(outputs, outputs.before, x.segments)
        joined = [outputs.context] if cfg.joins_context else []
        joined += [readout] if cfg.input_feeding else []
        gates = x.gates
        if joined:
            gates = gates + self.product("joined", jnp.concatenate(joined, axis=-1))
        new = []
        for number, old in enumerate(layers):
            if number:
                below = self.drop(new[-1][0], x.key, number)
                gates = self.product(f"input_{number}", below)
                gates = biased(gates, arrays["input"][number])
            recurrent = self.product(f"recurrent_{number}", old[0])
            bias = arrays["candidate"][number]
            new.append(advance(CELLS[cfg.cell], gates, recurrent, bias, old))
        outputs = outputs._replace(after=new[-1][0])
        if not self.stepwise:
            return DecoderState(tuple(new)), self.needed(outputs)
        outputs = self.finish(outputs, x)
        readout = outputs.readout if cfg.input_feeding else None
        predicted = None if x.forced is None else jnp.argmax(outputs.logits, axis=-1)
        done = StepOutputs(logits=outputs.logits, weights=outputs.weights)
        return DecoderState(tuple(new), readout, predicted), done

    def needed(self, outputs):
        """``outputs`` without the state that ``finish`` does not read."""
        earlier = READOUTS[self.cfg.readout].earlier
        if not earlier:
            return outputs._replace(before=None)
        attends = self.cfg.attends and self.cfg.query == "current"
        return outputs if attends else outputs._replace(after=None)

    def finish(self, outputs, x):
        """``outputs`` with readout and logits; of all steps, T instead of W."""
        if outputs.logits is not None:
            return outputs
        cfg, kind = self.cfg, READOUTS[self.cfg.readout]
        if cfg.attends and cfg.query == "current":
            outputs = self.attend(outputs, outputs.after, x.segments)
        read = [outputs.before if kind.earlier else outputs.after]
        read += [outputs.context] if cfg.has_context else []
        read += [x.embedded] if kind.embedding else []
        y = jnp.concatenate(read, axis=-1)
        if kind.maps:
            y = kind.squash(biased(self.product("readout", y), self.arrays["readout"]))
        logits = self.product("output", y).astype(jnp.float32)
        logits = biased(logits, self.arrays["output"])
        return outputs._replace(readout=y, logits=logits)

    def attend(self, outputs, states, segments):
        """``outputs`` with the context of ``states``."""
        cfg, memory = self.cfg, self.memory
        context, weights = attend(
            cfg, self.product, self.arrays, memory, states, segments, self.records
        )
        return outputs._replace(context=context, weights=weights)

    def drop(self, x, key, number):
        """Dropout of what layer ``number`` reads, if there is a key."""
        if key is None:
            return x
        return dropout(x, self.cfg.dropout, jax.random.fold_in(key, number))
