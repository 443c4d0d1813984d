"""Running text as masked rows, maybe in pairs."""

import dataclasses

from tfm_jax.data import text_batches
from tfm_jax.data.causal_text import load, texts
from tfm_jax.data.rows import masking, sentence_pairs, sentences
from tfm_jax.data.sources import documents
from tfm_jax.knobs import bounded, choice

__all__ = ["Config", "change", "load", "rows", "texts"]

_Masking, _Pairs = masking.Config, sentence_pairs.Config  # their fields hide the names


@dataclasses.dataclass(frozen=True)
class Config(text_batches.Order, documents.Config):
    """Running text, how it fills rows, and which words are asked for."""

    length: int = bounded(128, 5, 2**24)  # tokens of a row, special ones included
    sentences: str = choice(sentences.SENTENCES, "punctuation")
    row_seed: int = bounded(0, 0)  # draws pairs, lengths and static masks
    pairs: _Pairs = _Pairs()
    masking: _Masking = _Masking()


def rows(cfg, tokenizer, found, split):
    """(`TextBatch`, report); rows for training are masked for good if so configured."""
    read, report = sentences.encode_sentences(tokenizer, found.texts, cfg.sentences)
    filled = sentence_pairs.pair_rows(
        read, cfg.pairs, tokenizer, length=cfg.length, seed=cfg.row_seed
    )
    if split == "train" and cfg.masking.draw == "static":
        filled = masking.masked_copies(filled, change(cfg, tokenizer), cfg.row_seed)
    return filled, report | {"rows": len(filled.tokens)}


def change(cfg, tokenizer):
    """What masks rows anew whenever they are seen."""
    return masking.Masker(cfg.masking, tokenizer)
