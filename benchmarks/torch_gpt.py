"""The decoder-only Transformer as one would write it in PyTorch, after nanoGPT.

The same model as ours: pre-norm blocks with a norm behind the last, learned positions,
one table for words and output, no biases where the configuration has none, fused causal
attention. Dropout, which the character set-up does without, is left out.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

GELUS = {"gelu": "none", "gelu_tanh": "tanh"}


class TorchGpt(nn.Module):
    """Called with tokens [B, T]; gives logits [B, T, V]."""

    def __init__(self, cfg: dict):
        """Args: cfg: the ``model`` section of an experiment."""
        super().__init__()
        if cfg["dropout"] or cfg["attention_dropout"] or cfg["embedding_dropout"]:
            raise ValueError("this model has no dropout")
        width, biases = cfg["width"], cfg["biases"] != "none"
        self.words = nn.Embedding(cfg["vocab"], width)
        self.places = nn.Embedding(cfg["max_length"], width)
        self.blocks = nn.ModuleList(Block(cfg, biases) for _ in range(cfg["depth"]))
        self.norm = nn.LayerNorm(width, eps=cfg["norm_eps"], bias=biases)
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                last = name.endswith(("out.weight", "down.weight"))
                scale = math.sqrt(2 * cfg["depth"]) if last else 1.0
                nn.init.normal_(parameter, std=0.02 / scale)

    def forward(self, tokens):
        """[B, T] int64 -> [B, T, V]."""
        length = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.words(tokens) + self.places(length)
        for block in self.blocks:
            x = block(x)
        return F.linear(self.norm(x), self.words.weight)

    def loss(self, tokens, labels):
        """Mean over all places."""
        return F.cross_entropy(self(tokens).flatten(0, 1), labels.flatten())


class Block(nn.Module):
    """Self-attention, then a feed-forward layer, a norm in front of each."""

    def __init__(self, cfg, biases):
        super().__init__()
        width, self.heads = cfg["width"], cfg["heads"]
        self.approximate = GELUS[cfg["activation"]]
        self.norm_attention = nn.LayerNorm(width, eps=cfg["norm_eps"], bias=biases)
        self.qkv = nn.Linear(width, 3 * width, bias=biases)
        self.out = nn.Linear(width, width, bias=biases)
        self.norm_feedforward = nn.LayerNorm(width, eps=cfg["norm_eps"], bias=biases)
        self.up = nn.Linear(width, cfg["ffn_width"], bias=biases)
        self.down = nn.Linear(cfg["ffn_width"], width, bias=biases)

    def forward(self, x):
        """[B, T, D] -> [B, T, D]."""
        qkv = self.qkv(self.norm_attention(x)).unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each [B, H, T, K]
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).flatten(2))
        y = F.gelu(self.up(self.norm_feedforward(x)), approximate=self.approximate)
        return x + self.down(y)
