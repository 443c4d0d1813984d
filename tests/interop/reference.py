"""Tiny MarianMT models of odd shapes with random weights, and sentences for them."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is the reference")
transformers = pytest.importorskip("transformers", reason="so is transformers")

PAD, EOS = 28, 0  # of every model here; decoding starts with PAD
SHAPES = {
    "swish, one table": dict(
        d_model=24,
        heads=3,
        ffn=20,
        encoder_layers=2,
        decoder_layers=1,
        vocab_size=37,
        activation_function="swish",
        scale_embedding=True,
    ),
    "relu, tied output": dict(
        d_model=20,
        heads=5,
        ffn=36,
        encoder_layers=1,
        decoder_layers=2,
        vocab_size=31,
        decoder_vocab_size=45,
        activation_function="relu",
        scale_embedding=False,
        share_encoder_decoder_embeddings=False,
    ),
    "gelu, nothing tied": dict(
        d_model=18,
        heads=1,
        ffn=7,
        encoder_layers=1,
        decoder_layers=1,
        vocab_size=41,
        decoder_vocab_size=29,
        activation_function="gelu",
        scale_embedding=True,
        share_encoder_decoder_embeddings=False,
        tie_word_embeddings=False,
    ),
}


def make(shape, **overrides):
    """A MarianMTModel whose every tensor is random, also norms and biases."""
    fields = dict(SHAPES[shape])
    heads, ffn = fields.pop("heads"), fields.pop("ffn")
    config = transformers.MarianConfig(
        **fields,
        encoder_attention_heads=heads,
        decoder_attention_heads=heads,
        encoder_ffn_dim=ffn,
        decoder_ffn_dim=ffn,
        max_position_embeddings=48,
        pad_token_id=PAD,
        decoder_start_token_id=PAD,
        eos_token_id=EOS,
        forced_eos_token_id=None,
        attn_implementation="eager",
        **overrides,
    )
    torch.manual_seed(0)
    model = transformers.MarianMTModel(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "embed_positions" not in name:
                centre = 1.0 if name.endswith("layer_norm.weight") else 0.0
                parameter.copy_(centre + 0.3 * torch.randn_like(parameter))
        model.final_logits_bias.copy_(torch.randn_like(model.final_logits_bias))
        model.final_logits_bias[:, EOS] = 5.0  # some sentences end before their limit
    return model


def sentences(config, lengths, seed=0):
    """Source ids [B, S], padded to the longest; a row ends in EOS, or is EOS alone."""
    rng = np.random.default_rng(seed)
    ids = np.full((len(lengths), max(lengths)), PAD)
    for row, length in enumerate(lengths):
        words = [i for i in range(config.vocab_size) if i not in (PAD, EOS)]
        ids[row, : length - 1] = rng.choice(words, length - 1)
        ids[row, length - 1] = EOS
    return ids
