"""ConvS2S as one would write it in PyTorch, from its layers; tests compare ours to it.

Gehring et al. 2017, arXiv:1705.03122, with the constants of fairseq's fconv, tensors
[B, C, T] throughout, dropout on embeddings, convolution inputs and the readout.
"""

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from tfm_jax.data.tokenizers.bilingual import PAD

HALF = 0.5**0.5


def normed(layer, std):
    """``layer`` with weight normalisation, N(0, std^2) and biases 0."""
    nn.init.normal_(layer.weight, std=std)
    nn.init.zeros_(layer.bias)
    return weight_norm(layer, dim=0)


def linear(inputs, outputs, keep=1.0):
    """Affine map; ``keep`` is the share of the inputs that dropout leaves."""
    return normed(nn.Linear(inputs, outputs), (keep / inputs) ** 0.5)


class ScaledGradient(torch.autograd.Function):
    """The identity, whose gradient is scaled."""

    @staticmethod
    def forward(ctx, x, scale):
        """Keeps ``scale``."""
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient):
        """Multiplies."""
        return gradient * ctx.scale, None


class Stack(nn.Module):
    """Embedding and gated convolutions; attention layers if it is a decoder's."""

    def __init__(self, cfg, stack, vocab):
        """Args: cfg: the ``model`` section of an experiment. stack: encoder, ..."""
        super().__init__()
        width, keep = cfg["embedding_width"], 1.0 - cfg["dropout"]
        widths, self.kernels = cfg[f"{stack}_widths"], cfg[f"{stack}_kernels"]
        if len(self.kernels) == 1:
            self.kernels = self.kernels * len(widths)
        self.dropout, self.causal = nn.Dropout(cfg["dropout"]), stack == "decoder"
        self.tokens = nn.Embedding(vocab, width)
        self.positions = nn.Embedding(cfg["max_length"], width)
        nn.init.normal_(self.tokens.weight, std=0.1)
        nn.init.normal_(self.positions.weight, std=0.1)
        self.project_in = linear(width, widths[0], keep)
        inputs = (widths[0], *widths[:-1])
        self.convolutions, self.residuals = nn.ModuleList(), nn.ModuleList()
        self.attentions = nn.ModuleList()
        for i, o, k in zip(inputs, widths, self.kernels, strict=True):
            layer = nn.Conv1d(i, 2 * o, k)
            self.convolutions.append(normed(layer, (4 * keep / (k * i)) ** 0.5))
            self.residuals.append(linear(i, o) if i != o else nn.Identity())
            maps = {"query": linear(o, width), "out": linear(width, o)}
            self.attentions.append(nn.ModuleDict(maps if self.causal else {}))
        self.project_out = linear(
            widths[-1], cfg["output_width"] if self.causal else width
        )

    def forward(self, tokens, hidden=None, memory=None, hidden_source=None):
        """[B, T] -> (vectors [B, T, E], states [B, T, D])."""
        embedded = self.tokens(tokens) + self.positions.weight[: tokens.shape[1]]
        embedded = self.dropout(embedded)
        x = self.project_in(embedded)
        for n, kernel in enumerate(self.kernels):
            residual = self.residuals[n](x)
            if hidden is not None:
                x = x.masked_fill(hidden[:, :, None], 0.0)
            before = kernel - 1 if self.causal else (kernel - 1) // 2
            x = F.pad(self.dropout(x).mT, (before, kernel - 1 - before))
            x = F.glu(self.convolutions[n](x), dim=1).mT
            if self.causal:
                x = attend(self.attentions[n], x, embedded, memory, hidden_source)
            x = (x + residual) * HALF
        return embedded, self.project_out(x)


def attend(maps, x, embedded, memory, hidden):
    """One step of the multi-step attention; ``hidden``: [B, S] bool, or None."""
    keys, values = memory
    logits = (maps["query"](x) + embedded) * HALF @ keys.mT
    if hidden is None:
        tokens = keys.shape[1]
    else:
        logits = logits.masked_fill(hidden[:, None], -torch.inf)
        tokens = (~hidden).sum(1)[:, None, None]
    y = logits.softmax(-1) @ values * tokens**0.5
    return (maps["out"](y) + x) * HALF


class TorchConvSeq2Seq(nn.Module):
    """Called with padded tokens [B, S] and [B, T]; gives vectors [B, T, D]."""

    def __init__(self, cfg: dict):
        """Args: cfg: the ``model`` section of an experiment; everything attends."""
        super().__init__()
        self.layers = len(cfg["decoder_widths"])
        self.encoder = Stack(cfg, "encoder", cfg["source_vocab"])
        self.decoder = Stack(cfg, "decoder", cfg["target_vocab"])
        self.dropout, inputs = nn.Dropout(cfg["dropout"]), cfg["output_width"]
        if cfg["tie"] == "none":
            self.output = linear(inputs, cfg["target_vocab"], 1.0 - cfg["dropout"])
        else:
            self.output = nn.Linear(inputs, cfg["target_vocab"])
            self.output.weight = self.decoder.tokens.weight
            nn.init.zeros_(self.output.bias)
        if cfg["tie"] == "three_way":
            self.encoder.tokens.weight = self.decoder.tokens.weight

    def forward(self, source, target, hidden_source):
        """``hidden_source``: [B, S] bool, True at padding, or None if there is none.

        Target padding follows all real tokens: causality alone hides it from them.
        """
        embedded, keys = self.encoder(source, hidden_source)
        keys = ScaledGradient.apply(keys, 0.5 / self.layers)
        memory = keys, (keys + embedded) * HALF
        _, x = self.decoder(target, None, memory, hidden_source)
        return self.dropout(x)

    def loss(self, source, target, labels, hidden_source, places=None, smoothing=0.0):
        """Mean over real target tokens; see ``TorchTransformer``."""
        y, labels = self(source, target, hidden_source).flatten(0, 1), labels.flatten()
        if places is not None:
            y, labels = y[places], labels[places]
        return F.cross_entropy(
            self.output(y), labels, ignore_index=PAD, label_smoothing=smoothing
        )
