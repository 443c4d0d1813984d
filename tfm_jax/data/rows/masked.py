"""Running text as rows for masked language models, maybe in pairs."""

import dataclasses
import functools

from tfm_jax.data.arrays.tokenized import encode_documents
from tfm_jax.data.batch import MaskedBatch
from tfm_jax.data.batches import Order
from tfm_jax.data.prepared import Kind, filled_text
from tfm_jax.data.rows import masking, sentence_pairs, sentences
from tfm_jax.data.sources import documents
from tfm_jax.data.workspace import workspace
from tfm_jax.knobs import knob

_Masking, _Pairs = masking.Config, sentence_pairs.Config  # their fields hide the names


@dataclasses.dataclass(frozen=True)
class Config(Order, documents.Config):
    """Running text, how it fills rows, and which tokens are predicted."""

    length: int = knob(
        128,
        "tokens of a row, special ones included",
        role="training",
        low=5,
        high=2**24,
    )
    sentences: str = knob(
        "punctuation", "where sentences end", choices=sentences.SENTENCES
    )
    row_seed: int = knob(0, "draws pairs, lengths and static masks", low=0)
    pairs: _Pairs = _Pairs()
    masking: _Masking = _Masking()


def _rows(cfg, tokenizer, corpus, split):
    """Rows for training are masked for good if so configured."""
    folder = workspace()
    text, report = encode_documents(
        tokenizer,
        corpus,
        split=functools.partial(sentences.divide, how=cfg.sentences),
        characters=corpus.characters,
        folder=folder,
        name=split,
    )
    path = folder and folder / split
    rows = sentence_pairs.pair_rows(
        *(text, cfg.pairs, tokenizer), length=cfg.length, seed=cfg.row_seed, path=path
    )
    if split == "train" and cfg.masking.draw == "static":
        path = folder and folder / f"{split}-masked"
        rows = masking.masked_copies(rows, _masker(cfg, tokenizer), cfg.row_seed, path)
    return filled_text(tokenizer, rows, report | {"rows": len(rows.tokens)})


def _masker(cfg, tokenizer):
    return masking.Masker(cfg.masking, tokenizer)


KIND = Kind(
    Config,
    MaskedBatch,
    documents.load_corpus,
    documents.texts_of,
    _rows,
    size=lambda corpus: corpus.count,
    augment=_masker,
    few=documents.few,
    mapped=sentence_pairs.MaskedRows,
)
