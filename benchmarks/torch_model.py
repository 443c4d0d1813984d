"""The encoder-decoder Transformer as one would write it in PyTorch, from its layers.

The same model as ours: Post-LN without a norm at the end of a stack, sinusoidal
positions, one embedding table for source, target and output, dropout on embeddings and
sub-layer outputs only. That last point also lets PyTorch use its fused attention.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

from tfm_jax.data.tokenizers.bilingual import PAD


class TorchTransformer(nn.Module):
    """Called with padded tokens [B, S] and [B, T]; gives vectors [B, T, D]."""

    def __init__(self, cfg: dict):
        """Args: cfg: the ``model`` section of an experiment."""
        super().__init__()
        width, length = cfg["width"], cfg["max_length"]
        self.table = nn.Parameter(torch.randn(cfg["target_vocab"], width) * width**-0.5)
        self.dropout = nn.Dropout(cfg["dropout"])
        self.register_buffer("positions", sinusoids(length, width), persistent=False)
        self.register_buffer(
            "causal", nn.Transformer.generate_square_subsequent_mask(length), False
        )
        fields = dict(
            d_model=width,
            nhead=cfg["heads"],
            dim_feedforward=cfg["ffn_width"],
            dropout=cfg["dropout"],
            layer_norm_eps=cfg["norm_eps"],
            batch_first=True,
        )
        self.encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(**fields),
            cfg["encoder_depth"],
            enable_nested_tensor=False,
        )
        self.decoder = nn.TransformerDecoder(
            nn.TransformerDecoderLayer(**fields), cfg["decoder_depth"]
        )
        for layer in (*self.encoder.layers, *self.decoder.layers):
            layer.dropout.p = 0.0  # inside the feed-forward block
            for module in layer.modules():
                if isinstance(module, nn.MultiheadAttention):
                    module.dropout = 0.0
            for parameter in layer.parameters():  # else copies of the first layer's
                if parameter.dim() > 1:
                    nn.init.xavier_uniform_(parameter)

    def forward(self, source, target, hidden_source):
        """``hidden_source``: [B, S] bool, True at padding, or None if there is none.

        Target padding follows all real tokens: causality alone hides it from them.
        """
        memory = self.encoder(self.embed(source), src_key_padding_mask=hidden_source)
        length = target.shape[1]
        return self.decoder(
            self.embed(target),
            memory,
            tgt_mask=self.causal[:length, :length],
            tgt_is_causal=True,
            memory_key_padding_mask=hidden_source,
        )

    def embed(self, tokens):
        """[B, T] -> [B, T, D]."""
        x = F.embedding(tokens, self.table) * math.sqrt(self.table.shape[1])
        return self.dropout(x + self.positions[: tokens.shape[1]])

    def loss(self, source, target, labels, hidden_source, places=None, smoothing=0.0):
        """Mean over real target tokens.

        Args:
            places: [N] where real labels lie in the flattened [B * T]: logits are then
                made there alone; None: everywhere, which keeps shapes static.
        """
        y = self(source, target, hidden_source).flatten(0, 1)
        labels = labels.flatten()
        if places is not None:
            y, labels = y[places], labels[places]
        logits = F.linear(y, self.table.to(y.dtype))
        return F.cross_entropy(
            logits.float(), labels, ignore_index=PAD, label_smoothing=smoothing
        )


def sinusoids(length, width):
    """[length, width]; sine at even, cosine at odd places."""
    angles = torch.arange(length)[:, None] * torch.exp(
        torch.arange(0, width, 2) * (-math.log(10_000.0) / width)
    )
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)
