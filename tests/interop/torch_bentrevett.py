"""Models of B. Trevett's notebooks 1 to 3, and what they call our tensors.

Source: github.com/bentrevett/pytorch-seq2seq at b3cd54c, without dropout.
"""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is the reference")
nn = torch.nn


class LSTMs(nn.Module):
    """Notebook 1, Sutskever et al. 2014."""

    def __init__(self, cfg):
        super().__init__()
        self.encoder, self.decoder = nn.Module(), nn.Module()
        for side, vocab in zip(
            (self.encoder, self.decoder),
            (cfg.source_vocab, cfg.target_vocab),
            strict=True,
        ):
            side.embedding = nn.Embedding(vocab, cfg.embedding_width)
            side.rnn = nn.LSTM(cfg.embedding_width, cfg.width, cfg.encoder_depth)
        self.decoder.fc_out = nn.Linear(cfg.width, cfg.target_vocab)

    def forward(self, src, trg):
        """Logits [T, B, V] of [S, B] and [T, B]."""
        _, states = self.encoder.rnn(self.encoder.embedding(src))
        y, _ = self.decoder.rnn(self.decoder.embedding(trg), states)
        return self.decoder.fc_out(y)


class GRUs(nn.Module):
    """Notebook 2, Cho et al. 2014."""

    def __init__(self, cfg):
        super().__init__()
        emb, hid = cfg.embedding_width, cfg.width
        self.encoder, self.decoder = nn.Module(), nn.Module()
        self.encoder.embedding = nn.Embedding(cfg.source_vocab, emb)
        self.encoder.rnn = nn.GRU(emb, hid)
        self.decoder.embedding = nn.Embedding(cfg.target_vocab, emb)
        self.decoder.rnn = nn.GRU(emb + hid, hid)
        self.decoder.fc_out = nn.Linear(emb + hid * 2, cfg.target_vocab)

    def forward(self, src, trg):
        """As of ``LSTMs``."""
        _, context = self.encoder.rnn(self.encoder.embedding(src))
        embedded, hidden, logits = self.decoder.embedding(trg), context, []
        for one in embedded[:, None]:
            _, hidden = self.decoder.rnn(torch.cat((one, context), dim=2), hidden)
            read = torch.cat((one[0], hidden[0], context[0]), dim=1)
            logits.append(self.decoder.fc_out(read))
        return torch.stack(logits)


class Attending(nn.Module):
    """Notebook 3, Bahdanau et al. 2015."""

    def __init__(self, cfg):
        super().__init__()
        emb, hid = cfg.embedding_width, cfg.width
        self.encoder, self.decoder = nn.Module(), nn.Module()
        self.encoder.embedding = nn.Embedding(cfg.source_vocab, emb)
        self.encoder.rnn = nn.GRU(emb, hid, bidirectional=True)
        self.encoder.fc = nn.Linear(hid * 2, hid)
        self.decoder.attention = nn.Module()
        self.decoder.attention.attn = nn.Linear(hid * 2 + hid, hid)
        self.decoder.attention.v = nn.Linear(hid, 1, bias=False)
        self.decoder.embedding = nn.Embedding(cfg.target_vocab, emb)
        self.decoder.rnn = nn.GRU(hid * 2 + emb, hid)
        self.decoder.fc_out = nn.Linear(hid * 2 + hid + emb, cfg.target_vocab)

    def forward(self, src, trg):
        """As of ``LSTMs``."""
        outputs, hidden = self.encoder.rnn(self.encoder.embedding(src))
        hidden = torch.tanh(self.encoder.fc(torch.cat((hidden[-2], hidden[-1]), 1)))
        outputs, logits = outputs.transpose(0, 1), []
        for embedded in self.decoder.embedding(trg):
            asked = hidden[:, None].expand(-1, outputs.shape[1], -1)
            energy = torch.cat((asked, outputs), dim=2)
            energy = torch.tanh(self.decoder.attention.attn(energy))
            weights = self.decoder.attention.v(energy)[..., 0].softmax(1)
            weighted = torch.bmm(weights[:, None], outputs)[:, 0]
            given = torch.cat((embedded, weighted), dim=1)[None]
            output, hidden = self.decoder.rnn(given, hidden[None])
            hidden = hidden[0]
            read = torch.cat((output[0], weighted, embedded), dim=1)
            logits.append(self.decoder.fc_out(read))
        return torch.stack(logits)


def _renamed(cfg, arrays):
    names = {
        "encoder.embedding.weight": "source_embedding.weight",
        "decoder.embedding.weight": "target_embedding.weight",
        "decoder.fc_out.weight": "decoder.output.weight",
        "decoder.fc_out.bias": "decoder.output.bias",
    }
    return {names.get(name, name): x for name, x in arrays.items()}


def _of_grus(cfg, arrays):
    """Their output map reads the token first, ours last."""
    arrays = _renamed(cfg, arrays)
    name = "decoder.output.weight"
    arrays[name] = np.roll(arrays[name], -cfg.embedding_width, axis=1)
    return arrays


def _of_attending(cfg, arrays):
    """One map of query and key there, one of each here."""
    arrays = _renamed(cfg, arrays)
    own = "decoder.attention."
    kernel = arrays.pop(f"{own}attn.weight")
    arrays[f"{own}query.weight"] = kernel[:, : cfg.width]
    arrays[f"{own}key.weight"] = kernel[:, cfg.width :]
    arrays[f"{own}query.bias"] = arrays.pop(f"{own}attn.bias")
    arrays[f"{own}score.weight"] = arrays.pop(f"{own}v.weight")
    arrays["bridge.0.0.weight"] = arrays.pop("encoder.fc.weight")
    arrays["bridge.0.0.bias"] = arrays.pop("encoder.fc.bias")
    return arrays


RUNGS = {  # size -> (model, from its names to those of tfm_jax.interop)
    "bentrevett1": (LSTMs, _renamed),
    "bentrevett2": (GRUs, _of_grus),
    "bentrevett3": (Attending, _of_attending),
}
