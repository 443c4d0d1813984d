"""Recurrent sequence-to-sequence models of ``torch.nn``, written from the papers."""

import pytest

torch = pytest.importorskip("torch", reason="torch is the reference")
nn, packing = torch.nn, torch.nn.utils.rnn
CELLS = {"gru": nn.GRU, "lstm": nn.LSTM}


class Attention(nn.Module):
    """Equations of Bahdanau et al. 2015, A.1.2, and Luong et al. 2015, section 3.1."""

    def __init__(self, cfg, state, memory):
        super().__init__()
        self.kind = cfg.score
        if cfg.score in ("additive", "concat"):
            size = cfg.alignment_width or cfg.width
            self.query = nn.Linear(state, size, bias=cfg.score == "concat")
            self.key = nn.Linear(memory, size, bias=False)
            self.score = nn.Linear(size, 1, bias=False)
        if cfg.score == "general":
            self.query = nn.Linear(state, memory, bias=False)

    def forward(self, state, memory, lengths):
        """[B, H], [B, S, D] -> [B, D]."""
        if self.kind in ("additive", "concat"):
            energy = torch.tanh(self.query(state)[:, None] + self.key(memory))
            energy = self.score(energy)[..., 0]
        else:
            query = self.query(state) if self.kind == "general" else state
            energy = (memory @ query[:, :, None])[..., 0]
        real = torch.arange(memory.shape[1]) < lengths[:, None]
        weights = energy.masked_fill(~real, -torch.inf).softmax(-1)
        return (weights[:, None] @ memory)[:, 0]


class Encoder(nn.Module):
    """Packed sequences, so that nothing is read behind a sentence."""

    def __init__(self, cfg):
        super().__init__()
        self.reverse = not cfg.bidirectional and cfg.source_order == "reversed"
        self.both = cfg.bidirectional
        self.rnn = CELLS[cfg.cell](
            cfg.embedding_width,
            cfg.width,
            cfg.encoder_depth,
            batch_first=True,
            bidirectional=cfg.bidirectional,
        )

    def forward(self, x, lengths):
        """[B, S, E] -> ([B, S, D], states as lists of layers of directions [B, H])."""
        if self.reverse:
            x = _reversed(x, lengths)
        packed = packing.pack_padded_sequence(x, lengths, True, enforce_sorted=False)
        y, states = self.rnn(packed)
        y, _ = packing.pad_packed_sequence(y, batch_first=True, total_length=x.shape[1])
        states = states if isinstance(states, tuple) else (states,)
        ends = [s.unflatten(0, (-1, 1 + self.both)) for s in states]
        return _reversed(y, lengths) if self.reverse else y, ends


class Decoder(nn.Module):
    """What is inside of its step; ``Seq2Seq`` calls it."""

    def __init__(self, cfg, memory):
        super().__init__()
        self.cfg = cfg
        context = memory if cfg.score != "none" or cfg.context == "every_step" else 0
        embedding = cfg.embedding_width * (
            cfg.readout in ("maxout", "plain_with_embedding")
        )
        size = cfg.width + context + embedding
        if cfg.readout in ("tanh", "maxout"):
            units = cfg.readout_width or cfg.width
            self.readout = nn.Linear(size, units * (1 + (cfg.readout == "maxout")))
            size = units
        current = cfg.score != "none" and cfg.query == "current"
        joined = (0 if current else context) + size * cfg.input_feeding
        self.rnn = CELLS[cfg.cell](
            cfg.embedding_width + joined,
            cfg.width,
            cfg.decoder_depth,
            batch_first=True,
        )
        if cfg.score != "none":
            self.attention = Attention(cfg, cfg.width, memory)
        self.output = nn.Linear(size, cfg.target_vocab, bias=cfg.output_bias)
        self.fed = size

    def read(self, state, context, embedded):
        """The readout."""
        parts = [state] + ([] if context is None else [context])
        if self.cfg.readout in ("maxout", "plain_with_embedding"):
            parts.append(embedded)
        t = torch.cat(parts, -1)
        if self.cfg.readout == "tanh":
            return torch.tanh(self.readout(t))
        if self.cfg.readout == "maxout":
            return self.readout(t).unflatten(-1, (-1, 2)).amax(-1)
        return t


class Seq2Seq(nn.Module):
    """A model of ``cfg``, a ``rnn_seq2seq.Config``, without dropout."""

    def __init__(self, cfg):
        super().__init__()
        self.cfg = cfg
        tables = {"source_embedding": cfg.source_vocab}
        tables |= {"target_embedding": cfg.target_vocab}
        if cfg.tie == "three_way":
            tables = {"embedding": cfg.source_vocab}
        for name, vocab in tables.items():
            setattr(self, name, nn.Embedding(vocab, cfg.embedding_width))
        memory = cfg.width * (1 + cfg.bidirectional)
        self.encoder = Encoder(cfg)
        self.decoder = Decoder(cfg, memory)
        if cfg.tie != "none":
            self.decoder.output.weight = self.target.weight
        if cfg.bridge.startswith("tanh"):
            read = memory if cfg.bridge == "tanh" else cfg.width
            states = 1 + (cfg.cell == "lstm")
            self.bridge = nn.ModuleList(
                nn.ModuleList(nn.Linear(read, cfg.width) for _ in range(states))
                for _ in range(cfg.decoder_depth)
            )

    @property
    def source(self):
        """Table of the source."""
        one = self.cfg.tie == "three_way"
        return self.embedding if one else self.source_embedding

    @property
    def target(self):
        """Table of the target."""
        one = self.cfg.tie == "three_way"
        return self.embedding if one else self.target_embedding

    def forward(self, source, lengths, target):
        """Logits [B, T, V] of [B, S], [B] and the decoder's inputs [B, T]."""
        memory, states, context = self.start(source, lengths)
        fed = memory.new_zeros(len(source), self.decoder.fed)
        logits = []
        for token in target.T:
            y, states, fed = self.step(token, states, fed, memory, lengths, context)
            logits.append(y)
        return torch.stack(logits, 1)

    def start(self, source, lengths):
        """(memory, first states, context that does not change)."""
        cfg = self.cfg
        memory, ends = self.encoder(self.source(source), lengths)
        context = None
        if cfg.score == "none" and cfg.context == "every_step":
            context = torch.cat([*ends[0][-1]], -1)
        first = []
        for kind, layers in enumerate(ends):
            rows = []
            for number in range(cfg.decoder_depth):
                layer = layers[min(number, len(layers) - 1)]
                if cfg.bridge.startswith("tanh"):
                    one = layer[-1:] if cfg.bridge == "tanh_backward" else layer
                    y = self.bridge[number][kind](torch.cat([*one], -1))
                    rows.append(y if kind else torch.tanh(y))
                else:
                    rows.append(layer[0] * (cfg.bridge == "copy"))
            first.append(torch.stack(rows))
        return memory, tuple(first), context

    def step(self, token, states, fed, memory, lengths, context):
        """(logits [B, V], states, readout) of tokens [B]."""
        cfg, decoder = self.cfg, self.decoder
        embedded, before = self.target(token), states[0][-1]
        attends = cfg.score != "none"
        if attends and cfg.query == "previous":
            context = decoder.attention(before, memory, lengths)
        joined = [embedded]
        if context is not None:
            joined.append(context)
        if cfg.input_feeding:
            joined.append(fed)
        given = states if cfg.cell == "lstm" else states[0]
        y, states = decoder.rnn(torch.cat(joined, -1)[:, None], given)
        states = states if cfg.cell == "lstm" else (states,)
        if attends and cfg.query == "current":
            context = decoder.attention(y[:, 0], memory, lengths)
        state = before if cfg.readout == "maxout" else y[:, 0]
        fed = decoder.read(state, context, embedded)
        return decoder.output(fed), states, fed


def _reversed(x, lengths):
    """The first ``lengths`` of each row the other way round."""
    place = torch.arange(x.shape[1])
    place = torch.where(place < lengths[:, None], lengths[:, None] - 1 - place, place)
    return x.gather(1, place[..., None].expand_as(x))
