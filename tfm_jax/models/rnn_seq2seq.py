"""Recurrent sequence-to-sequence models, without and with attention.

Source: Sutskever et al. 2014, arXiv:1409.3215; Cho et al. 2014, arXiv:1406.1078;
Bahdanau et al. 2015, arXiv:1409.0473; Luong et al. 2015, arXiv:1508.04025.
Deviates: the reset gate of a GRU stands behind the product, as in cuDNN, PyTorch and
Flax, not before it; local attention, and no dropout on states, are not here.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from tfm_jax.data.batch import PairBatch
from tfm_jax.layers.embed import TokenEmbedding
from tfm_jax.layers.linear import constrain
from tfm_jax.layers.recurrent.alignment import ProjectedMemory
from tfm_jax.layers.recurrent.arch import RecurrentArch
from tfm_jax.layers.recurrent.bridge import Bridges
from tfm_jax.layers.recurrent.decoder import Decoder, DecoderState, StepInputs
from tfm_jax.layers.recurrent.encoder import Encoded, Encoder
from tfm_jax.layers.recurrent.layer import drop, starts, step_keys
from tfm_jax.models.family import Family
from tfm_jax.models.parts.encoder_decoder import EncoderDecoder, Vocabularies
from tfm_jax.ops.dropout import dropout


@dataclasses.dataclass(frozen=True)
class Config(Vocabularies, RecurrentArch):
    """Defaults are those of `RecurrentArch`."""

    def __post_init__(self):
        super().__post_init__()
        if self.tie != "none" and self.readout_size != self.embedding_width:
            raise ValueError(
                f"model.tie={self.tie!r} needs a readout of model.embedding_width="
                f"{self.embedding_width}, not {self.readout_size}; with model.readout "
                "from (tanh, maxout) set model.readout_width"
            )


class Cache(NamedTuple):
    """State of decoding ``W`` hypotheses a sentence.

    Attributes:
        state: what each of them carries.
        memory: what they attend to, or None.
        context: [B, W, D], what they are given at every step without attention.
    """

    state: DecoderState
    memory: ProjectedMemory | None
    context: jax.Array | None

    def select(self, parents: jax.Array) -> "Cache":
        """Hypothesis w of the result continues ``parents[:, w]``; parents: [B, W]."""

        def chosen(x):
            return jnp.take_along_axis(x, parents[:, :, None], axis=1)

        return self._replace(state=jax.tree.map(chosen, self.state))


class RNNSeq2Seq(EncoderDecoder):
    """Recurrent encoder-decoder; ``init_params`` makes its parameters.

    Args (call): batch: ``PairBatch`` of [B, S] and [B, T] integers, see `transformer`.
    Returns: logits [B, T, V] float32.
    """

    cfg: Config

    def setup(self):
        cfg, dtype = self.cfg, jnp.dtype(self.cfg.dtype)

        def tokens(vocab):
            return TokenEmbedding(vocab, cfg.embedding_width, cfg.init, False, dtype)

        self.set_tables(tokens)
        self.encoder = Encoder(cfg)
        self.bridge = Bridges(cfg)
        self.decoder = Decoder(cfg)

    def encode(
        self,
        source: jax.Array,
        segments: jax.Array,
        positions: jax.Array | None = None,
        *,
        train: bool,
    ) -> Encoded:
        """[B, S] tokens, segments and positions -> ``Encoded``.

        Positions say only whether rows hold several sentences; None: they do not.
        """
        x = self.table("source")(source.T)
        x = drop(x, self.cfg.dropout, step_keys(self, len(x), train=train))
        x = constrain(x, "length", "batch", None)
        packed = positions is not None
        return self.encoder(x, segments.T, packed=packed, train=train)

    def decode(self, batch: PairBatch, memory: Encoded, *, train: bool) -> jax.Array:
        """Logits [B, T, V] for every target position.

        While training, a share 1 - ``teacher_forcing`` of the tokens but the first is
        replaced by what the model itself finds likeliest at the step before (Bengio et
        al. 2015, arXiv:1506.03099, section 2.4, with a constant rate, a coin for each
        token, and the likeliest token rather than a drawn one). No gradient flows
        through that choice.
        """
        cfg, packed = self.cfg, batch.target_positions is not None
        tokens, table = batch.target_inputs, self.table("target")
        segments = batch.target_segments if packed else jnp.ones_like(tokens)
        wanted = segments if packed else segments[:, :1]
        initial, context = self.bridge(memory, batch.source_segments, wanted)
        steps = tokens.shape[1]

        def by_step(x):
            """[B, T, ...], or [B, 1, ...] of all T, -> [T, B, 1, ...]."""
            x = jnp.broadcast_to(x, (len(x), steps, *x.shape[2:]))
            return jnp.swapaxes(x, 0, 1)[:, :, None]

        start = starts(segments.T)[:, :, None]
        state = self.decoder.init_state(initial, 1)
        inputs = StepInputs(
            context=None if context is None else by_step(context),
            key=step_keys(self, steps, train=train),
        )
        if packed:
            inputs = inputs._replace(
                segments=by_step(segments),
                start=start,
                initial=jax.tree.map(by_step, initial),
            )
        if train and cfg.teacher_forcing < 1.0:
            forced = start | by_step(self._coins(tokens))
            inputs = inputs._replace(tokens=by_step(tokens), forced=forced)
            state = state._replace(predicted=jnp.zeros_like(tokens[:, :1]))
        else:
            embedded = drop(table(tokens.T), cfg.dropout, inputs.key)
            embedded = constrain(embedded, "length", "batch", None)[:, :, None]
            inputs = inputs._replace(embedded=embedded)
        projected = self.decoder.project(
            memory.outputs, batch.source_segments, packed=packed
        )
        logits = self.decoder(state, inputs, projected, table.table)
        return constrain(logits, "batch", "length", "vocab")

    def init_cache(
        self,
        memory: Encoded,
        source_segments: jax.Array,
        *,
        width: int,
        max_length: int,
    ) -> Cache:
        """Cache for ``width`` hypotheses a sentence; of any number of tokens."""
        del max_length
        one = jnp.ones_like(source_segments[:, :1])
        initial, context = self.bridge(memory, source_segments, one)
        return Cache(
            self.decoder.init_state(initial, width),
            self.decoder.project(memory.outputs, source_segments, packed=False),
            None if context is None else jnp.repeat(context, width, axis=1),
        )

    def step(self, tokens: jax.Array, cache: Cache) -> tuple[jax.Array, Cache]:
        """Next tokens [B, W] -> (logits [B, W, V], cache)."""
        table = self.table("target")
        inputs = StepInputs(embedded=table(tokens), context=cache.context)
        logits, state = self.decoder.step(
            cache.state, inputs, cache.memory, table.table
        )
        return logits, cache._replace(state=state)

    def _coins(self, tokens):
        """[B, T] bool, whether the reference is read; not of the device that asks."""
        rate, key = 1.0 - self.cfg.teacher_forcing, self.make_rng("dropout")
        return dropout(jnp.ones(tokens.shape), rate, key) > 0.0


Model = RNNSeq2Seq

_SUTSKEVER = dict(cell="lstm", bidirectional=False, score="none", bridge="copy")
_DIDACTIC = dict(dropout=0.5, teacher_forcing=0.5)
SIZES: dict[str, dict[str, Any]] = {
    "tiny": dict(width=128, embedding_width=128),
    # Bahdanau et al. 2015, appendix A.2.3
    "bahdanau": dict(
        width=1000,
        embedding_width=620,
        bridge="tanh_backward",
        readout="maxout",
        readout_width=500,
        init="normal_0.01",
    ),
    # Luong et al. 2015, section 4.1
    "luong": dict(
        **_SUTSKEVER | dict(score="general"),
        width=1000,
        embedding_width=1000,
        encoder_depth=4,
        decoder_depth=4,
        source_order="reversed",
        query="current",
        input_feeding=True,
        init="uniform_0.1",
        recurrent_init="like_others",
        dropout=0.2,
    ),
    # the ladder of B. Trevett's notebooks, github.com/bentrevett/pytorch-seq2seq:
    # 1, Sutskever et al. 2014; 2, Cho et al. 2014; 3, Bahdanau et al. 2015
    "bentrevett1": dict(
        **_SUTSKEVER,
        encoder_depth=2,
        decoder_depth=2,
        readout="plain",
        init="uniform_0.08",
        recurrent_init="like_others",
        forget_bias=0.0,
        **_DIDACTIC,
    ),
    "bentrevett2": dict(
        **_SUTSKEVER | dict(cell="gru"),
        context="every_step",
        readout="plain_with_embedding",
        init="normal_0.01",
        recurrent_init="like_others",
        **_DIDACTIC,
    ),
    "bentrevett3": dict(
        score="concat",
        readout="plain_with_embedding",
        init="normal_0.01",
        recurrent_init="like_others",
        **_DIDACTIC,
    ),
}

FAMILY = Family(
    "rnn_seq2seq",
    Config,
    RNNSeq2Seq,
    SIZES,
    learns={"translation": ()},
    below=("embedding", "source_embedding", "target_embedding"),
    above=("bridge", "decoder/readout", "decoder/output", "decoder/output_bias"),
)
