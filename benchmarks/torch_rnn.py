"""Recurrent encoder-decoders as one would write them in PyTorch; ours is tested by it.

Written from the papers of `tfm_jax.models.rnn_seq2seq`: layers of ``torch.nn`` over
packed sequences in the encoder, keys of the attention made once, and the readout and
the logits of all steps in one product each behind the loop, where no step depends on
them. Dropout is on embeddings alone.
"""

from types import SimpleNamespace
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from tfm_jax.data.tokenizers.bilingual import BOS, EOS, PAD

CELLS = {"gru": nn.GRU, "lstm": nn.LSTM}


class Memory(NamedTuple):
    """What all steps read of the source; None: nothing."""

    keys: torch.Tensor | None
    values: torch.Tensor
    hidden: torch.Tensor | None  # [B, S], -inf at padding
    context: torch.Tensor | None  # that does not change


class Attention(nn.Module):
    """Equations of Bahdanau et al. 2015, A.1.2, and Luong et al. 2015, section 3.1."""

    def __init__(self, cfg, memory):
        super().__init__()
        self.kind = cfg.score
        if cfg.score in ("additive", "concat"):
            size = cfg.alignment_width or cfg.width
            self.query = nn.Linear(cfg.width, size, bias=cfg.score == "concat")
            self.key = nn.Linear(memory, size, bias=False)
            self.score = nn.Linear(size, 1, bias=False)
        if cfg.score == "general":
            self.query = nn.Linear(cfg.width, memory, bias=False)

    def keys(self, values):
        """[B, S, D] -> what a query is compared with."""
        return self.key(values) if self.kind in ("additive", "concat") else values

    def forward(self, state, memory):
        """[B, H] -> [B, D]."""
        if self.kind in ("additive", "concat"):
            energy = torch.tanh(self.query(state)[:, None] + memory.keys)
            energy = self.score(energy)[..., 0]
        else:
            query = self.query(state) if self.kind == "general" else state
            energy = (memory.keys @ query[:, :, None])[..., 0]
        energy = energy if memory.hidden is None else energy + memory.hidden
        return torch.bmm(energy.softmax(1)[:, None], memory.values)[:, 0]


class Encoder(nn.Module):
    """Packed sequences, so that nothing is read behind a sentence."""

    def __init__(self, cfg):
        super().__init__()
        self.reverse = not cfg.bidirectional and cfg.source_order == "reversed"
        self.rnn = CELLS[cfg.cell](
            cfg.embedding_width,
            cfg.width,
            cfg.encoder_depth,
            batch_first=True,
            bidirectional=cfg.bidirectional,
        )

    def forward(self, x, real):
        """[B, S, E] -> ([B, S, D], states [layers, directions, B, H])."""
        lengths = real.sum(1)
        x = _reversed(x, lengths) if self.reverse else x
        if real.all():
            y, states = self.rnn(x)
        else:
            packed = pack_padded_sequence(x, lengths, True, enforce_sorted=False)
            y, states = self.rnn(packed)
            y, _ = pad_packed_sequence(y, True, total_length=x.shape[1])
        states = states if isinstance(states, tuple) else (states,)
        ends = [s.unflatten(0, (-1, 1 + self.rnn.bidirectional)) for s in states]
        return _reversed(y, lengths) if self.reverse else y, ends


class Decoder(nn.Module):
    """One step at a time."""

    def __init__(self, cfg, memory):
        super().__init__()
        self.cfg = cfg
        self.attends, self.fixed = cfg.score != "none", cfg.context == "every_step"
        context = memory if self.attends or self.fixed else 0
        self.reads_embedding = cfg.readout in ("maxout", "plain_with_embedding")
        size = cfg.width + context + cfg.embedding_width * self.reads_embedding
        if cfg.readout in ("tanh", "maxout"):
            units = cfg.readout_width or cfg.width
            self.readout = nn.Linear(size, units * (1 + (cfg.readout == "maxout")))
            size = units
        current = self.attends and cfg.query == "current"
        joined = (0 if current else context) + size * cfg.input_feeding
        inputs = cfg.embedding_width + joined
        self.rnn = CELLS[cfg.cell](inputs, cfg.width, cfg.decoder_depth)
        if self.attends:
            self.attention = Attention(cfg, memory)
        self.output = nn.Linear(size, cfg.target_vocab, bias=cfg.output_bias)
        self.fed = size

    def forward(self, embedded, carry, memory):
        """(what the logits are made of, carry) of [B, E].

        Args: carry: the states of each layer, and with input feeding the readout.
        """
        cfg, context = self.cfg, memory.context
        kinds = 1 + (cfg.cell == "lstm")
        before = carry[kinds * (cfg.decoder_depth - 1)]
        if self.attends and cfg.query == "previous":
            context = self.attention(before, memory)
        joined = [embedded] + ([] if context is None else [context])
        x = torch.cat([*joined, *carry[kinds * cfg.decoder_depth :]], 1)
        states = []
        for layer, weights in enumerate(self.rnn.all_weights):
            given = carry[kinds * layer : kinds * (layer + 1)]
            if cfg.cell == "lstm":
                states += torch.lstm_cell(x, given, *weights)
            else:
                states.append(torch.gru_cell(x, *given, *weights))
            x = states[kinds * layer]
        if self.attends and cfg.query == "current":
            context = self.attention(x, memory)
        parts = [before if cfg.readout == "maxout" else x]
        parts += [] if context is None else [context]
        read = torch.cat(parts + [embedded] * self.reads_embedding, 1)
        if not cfg.input_feeding:
            return read, (*states,)
        read = self.read(read)
        return read, (*states, read)

    def read(self, x):
        """The readout."""
        if self.cfg.readout == "tanh":
            return torch.tanh(self.readout(x))
        if self.cfg.readout == "maxout":
            return self.readout(x).unflatten(-1, (-1, 2)).amax(-1)
        return x

    def logits(self, read):
        """Of what ``forward`` returns."""
        return self.output(read if self.cfg.input_feeding else self.read(read))


class TorchRecurrent(nn.Module):
    """Its parameters are called as ``tfm_jax.interop`` writes them."""

    def __init__(self, cfg: dict):
        """Args: cfg: the ``model`` section of an experiment, a ``rnn_seq2seq`` one."""
        super().__init__()
        self.cfg = cfg = SimpleNamespace(**cfg)
        sides = ("source", cfg.source_vocab), ("target", cfg.target_vocab)
        self.tables = {side: f"{side}_embedding" for side, _ in sides}
        if cfg.tie == "three_way":
            self.tables = dict.fromkeys(self.tables, "embedding")
        for side, vocab in sides:
            setattr(self, self.tables[side], nn.Embedding(vocab, cfg.embedding_width))
        self.dropout = nn.Dropout(cfg.dropout)
        memory = cfg.width * (1 + cfg.bidirectional)
        self.encoder, self.decoder = Encoder(cfg), Decoder(cfg, memory)
        if cfg.tie != "none":
            self.decoder.output.weight = getattr(self, self.tables["target"]).weight
        if cfg.bridge.startswith("tanh"):
            read = memory if cfg.bridge == "tanh" else cfg.width
            states = 1 + (cfg.cell == "lstm")
            self.bridge = nn.ModuleList(
                nn.ModuleList(nn.Linear(read, cfg.width) for _ in range(states))
                for _ in range(cfg.decoder_depth)
            )

    def embed(self, side, tokens):
        """With dropout."""
        return self.dropout(getattr(self, self.tables[side])(tokens))

    def start(self, source):
        """[B, S] -> (memory, first carry)."""
        cfg, real = self.cfg, source != PAD
        values, ends = self.encoder(self.embed("source", source), real)
        hidden = None if real.all() else torch.where(real, 0.0, -torch.inf)
        keys = context = None
        if cfg.score != "none":
            keys = self.decoder.attention.keys(values)
        elif cfg.context == "every_step":
            context = torch.cat([*ends[0][-1]], -1)
        carry = [
            self._bridged(number, kind, layers[min(number, len(layers) - 1)])
            for number in range(cfg.decoder_depth)
            for kind, layers in enumerate(ends)
        ]
        if cfg.input_feeding:
            carry.append(values.new_zeros(len(source), self.decoder.fed))
        return Memory(keys, values, hidden, context), (*carry,)

    def _bridged(self, number, kind, ends):
        """First state of a layer, from the [directions, B, H] of the encoder's."""
        if not self.cfg.bridge.startswith("tanh"):
            return ends[0] * (self.cfg.bridge == "copy")
        ends = ends[-1:] if self.cfg.bridge == "tanh_backward" else ends
        y = self.bridge[number][kind](torch.cat([*ends], -1))
        return y if kind else torch.tanh(y)

    def forward(self, source, target):
        """Logits [B, T, V] of [B, S] and the decoder's inputs [B, T]."""
        return self.decoder.logits(self._reads(source, target))

    def _reads(self, source, target):
        memory, carry = self.start(source)
        reads = []
        for x in self.embed("target", target).unbind(1):
            read, carry = self.decoder(x, carry, memory)
            reads.append(read)
        return torch.stack(reads, 1)

    def loss(self, source, target, labels, hidden_source, places, smoothing=0.0):
        """Mean over real target tokens; see ``TorchTransformer.loss``."""
        del hidden_source
        reads = self._reads(source, target).flatten(0, 1)
        return F.cross_entropy(
            self.decoder.logits(reads[places]),
            labels.flatten()[places],
            label_smoothing=smoothing,
        )

    @torch.inference_mode()
    def greedy(self, source, limits):
        """[B, S], [B] -> tokens [B, T], PAD behind EOS."""
        memory, carry = self.start(source)
        token, tokens = torch.full((len(source),), BOS), []
        done = torch.zeros(len(source), dtype=torch.bool)
        for step in range(1, int(limits.max()) + 1):
            read, carry = self.decoder(self.embed("target", token), carry, memory)
            logits = self.decoder.logits(read)
            logits[:, [PAD, BOS]] = -torch.inf
            token = logits.argmax(1)
            token = torch.where(limits == step, EOS, token)
            token = torch.where(done, PAD, token)
            tokens.append(token)
            done |= token == EOS
            if done.all():
                break
        return torch.stack(tokens, 1)

    @torch.inference_mode()
    def beam(self, source, limits, beam):
        """As ``greedy``: the likeliest hypothesis, without length penalty.

        Of the 2 W best continuations of W hypotheses the W best that do not end live
        on, and those of the first W that end are finished.
        """

        def wide(x):
            return None if x is None else x.repeat_interleave(beam, 0)

        memory, carry = self.start(source)
        memory, carry = Memory(*map(wide, memory)), tuple(map(wide, carry))
        rows, vocab = len(source), self.cfg.target_vocab
        token = torch.full((rows, beam), BOS)
        scores = torch.full((rows, beam), -torch.inf)
        scores[:, 0] = 0.0
        tokens = torch.zeros(rows, beam, 0, dtype=torch.long)
        best = torch.full((rows,), -torch.inf)
        likeliest = torch.zeros(rows, 0, dtype=torch.long)
        first = torch.arange(rows)[:, None] * beam
        only_eos = torch.full((vocab,), -torch.inf)
        only_eos[EOS] = 0.0
        for step in range(1, int(limits.max()) + 1):
            embedded = self.embed("target", token.flatten())
            read, carry = self.decoder(embedded, carry, memory)
            gains = self.decoder.logits(read).log_softmax(1)
            gains[:, [PAD, BOS]] = -torch.inf
            gains = gains.unflatten(0, (rows, beam))
            gains[limits == step] = only_eos
            scores, places = (scores[..., None] + gains).flatten(1).topk(2 * beam)
            parents, token = places // vocab, places % vocab
            ends = token == EOS
            ended, place = scores[:, :beam].where(ends[:, :beam], -torch.inf).max(1)
            likelier = (ended > best)[:, None]
            parent, eos = (x.gather(1, place[:, None]) for x in (parents, token))
            new = torch.cat([_take(tokens, parent)[:, 0], eos], 1)
            old = torch.nn.functional.pad(likeliest, (0, 1), value=PAD)
            likeliest, best = new.where(likelier, old), best.maximum(ended)
            scores, places = scores.where(~ends, -torch.inf).topk(beam)
            parents, token = parents.gather(1, places), token.gather(1, places)
            tokens = torch.cat([_take(tokens, parents), token[..., None]], 2)
            carry = tuple(x[(first + parents).flatten()] for x in carry)
            if (scores[:, 0] <= best).all():
                break
        return likeliest


def _take(tokens, parents):
    """[B, W, T] of the hypotheses ``parents`` [B, W] of each row."""
    return tokens.gather(1, parents[..., None].expand(-1, -1, tokens.shape[2]))


def _reversed(x, lengths):
    """The first ``lengths`` of each row the other way round."""
    place = torch.arange(x.shape[1])
    place = torch.where(place < lengths[:, None], lengths[:, None] - 1 - place, place)
    return x.gather(1, place[..., None].expand_as(x))
