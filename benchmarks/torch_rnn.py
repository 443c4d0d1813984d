"""A recurrent encoder-decoder with additive attention as one would write it in PyTorch.

The same model as ours: layers of ``torch.nn`` over packed sequences in the encoder,
keys of the attention made once, and the readout and the logits of all steps in one
product each behind the loop, since no step depends on them.
"""

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from tfm_jax.data.tokenizers.bilingual import BOS, EOS, PAD


class TorchRecurrent(nn.Module):
    """``score=additive | concat``, ``query=previous``, one layer a side."""

    def __init__(self, cfg: dict):
        """Args: cfg: the ``model`` section of an experiment."""
        super().__init__()
        self.cfg, self.lstm = cfg, cfg["cell"] == "lstm"
        embedding, width = cfg["embedding_width"], cfg["width"]
        self.source = nn.Embedding(cfg["source_vocab"], embedding)
        self.target = nn.Embedding(cfg["target_vocab"], embedding)
        self.dropout = nn.Dropout(cfg["dropout"])
        layer = nn.LSTM if self.lstm else nn.GRU
        self.encoder = layer(embedding, width, batch_first=True, bidirectional=True)
        states = 1 + self.lstm
        self.bridge = nn.ModuleList(nn.Linear(2 * width, width) for _ in range(states))
        cell = nn.LSTMCell if self.lstm else nn.GRUCell
        self.cell = cell(embedding + 2 * width, width)
        self.query = nn.Linear(width, width, bias=cfg["score"] == "concat")
        self.key = nn.Linear(2 * width, width, bias=False)
        self.score = nn.Linear(width, 1, bias=False)
        self.tanh_readout = cfg["readout"] == "tanh"
        size = 3 * width + embedding * (not self.tanh_readout)
        if self.tanh_readout:
            self.readout = nn.Linear(size, width)
            size = width
        self.output = nn.Linear(size, cfg["target_vocab"])

    def encode(self, source):
        """[B, S] -> (keys, values, mask [B, S] or None, states)."""
        real = source != PAD
        x = self.dropout(self.source(source))
        if real.all():
            values, states = self.encoder(x)
        else:
            packed = pack_padded_sequence(x, real.sum(1), True, enforce_sorted=False)
            values, states = self.encoder(packed)
            values, _ = pad_packed_sequence(values, True, total_length=source.shape[1])
        states = states if self.lstm else (states,)
        first = [
            bridge(torch.cat([state[0], state[1]], 1))
            for bridge, state in zip(self.bridge, states, strict=True)
        ]
        first[0] = torch.tanh(first[0])
        hidden = None if real.all() else torch.where(real, 0.0, -torch.inf)
        return self.key(values), values, hidden, tuple(first)

    def advance(self, embedded, states, keys, values, hidden):
        """One step: (context [B, D], states)."""
        energy = torch.tanh(self.query(states[0])[:, None] + keys)
        logits = self.score(energy)[..., 0]
        logits = logits if hidden is None else logits + hidden
        context = torch.bmm(logits.softmax(1)[:, None], values)[:, 0]
        given = torch.cat([embedded, context], 1)
        new = self.cell(given, states if self.lstm else states[0])
        return context, new if self.lstm else (new,)

    def logits(self, state, context, embedded):
        """Of [..., H], [..., D], [..., E]."""
        if self.tanh_readout:
            read = torch.tanh(self.readout(torch.cat([state, context], -1)))
        else:
            read = torch.cat([state, context, embedded], -1)
        return self.output(read)

    def loss(self, source, target, labels, hidden_source, places, smoothing=0.0):
        """Mean over real target tokens; see ``TorchTransformer.loss``."""
        del hidden_source
        keys, values, hidden, states = self.encode(source)
        embedded = self.dropout(self.target(target))
        contexts, outputs = [], []
        for x in embedded.unbind(1):
            context, states = self.advance(x, states, keys, values, hidden)
            contexts.append(context)
            outputs.append(states[0])
        read = [torch.stack(outputs, 1), torch.stack(contexts, 1), embedded]
        logits = self.logits(*(x.flatten(0, 1)[places] for x in read))
        return F.cross_entropy(
            logits, labels.flatten()[places], label_smoothing=smoothing
        )

    @torch.inference_mode()
    def greedy(self, source, limits):
        """[B, S], [B] -> tokens [B, T], PAD behind EOS."""
        keys, values, hidden, states = self.encode(source)
        token, tokens = torch.full((len(source),), BOS), []
        done = torch.zeros(len(source), dtype=torch.bool)
        for step in range(1, int(limits.max()) + 1):
            embedded = self.target(token)
            context, states = self.advance(embedded, states, keys, values, hidden)
            logits = self.logits(states[0], context, embedded)
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
        """As ``greedy``: the likeliest of ``beam`` hypotheses, without length penalty.

        Hypotheses that have ended stay in the beam with their score.
        """
        keys, values, hidden, states = self.encode(source)
        rows, vocab = len(source), self.cfg["target_vocab"]

        def wide(x):
            return None if x is None else x.repeat_interleave(beam, 0)

        keys, values, hidden = map(wide, (keys, values, hidden))
        states = tuple(map(wide, states))
        limits = limits[:, None].expand(-1, beam)
        token = torch.full((rows * beam,), BOS)
        scores = torch.full((rows, beam), -torch.inf)
        scores[:, 0] = 0.0
        done = torch.zeros(rows, beam, dtype=torch.bool)
        tokens = torch.zeros(rows, beam, 0, dtype=torch.long)
        first = torch.arange(rows)[:, None] * beam
        ended = torch.full((vocab,), -torch.inf)
        ended[PAD] = 0.0
        for step in range(1, int(limits.max()) + 1):
            embedded = self.target(token)
            context, states = self.advance(embedded, states, keys, values, hidden)
            gains = self.logits(states[0], context, embedded).log_softmax(1)
            gains[:, [PAD, BOS]] = -torch.inf
            gains = gains.unflatten(0, (rows, beam))
            gains[(limits == step) & ~done] = -torch.inf
            gains[..., EOS][(limits == step) & ~done] = 0.0
            gains[done] = ended
            scores, best = (scores[..., None] + gains).flatten(1).topk(beam)
            parents, token = best // vocab, best % vocab
            tokens = tokens.gather(1, parents[..., None].expand_as(tokens))
            tokens = torch.cat([tokens, token[..., None]], 2)
            done = done.gather(1, parents) | (token == EOS)
            states = tuple(x[(first + parents).flatten()] for x in states)
            token = token.flatten()
            if done.all():
                break
        return tokens[:, 0]
