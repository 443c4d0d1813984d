"""Running text as rows for causal language models."""

import dataclasses

from tfm_jax.data import causal_rows, documents, text_batches


@dataclasses.dataclass(frozen=True)
class Config(text_batches.Order, documents.Config):
    """Running text, and how it fills rows."""

    length: int = 64  # tokens of a row
    layout: str = dataclasses.field(
        default="joined", metadata={"choices": tuple(causal_rows.LAYOUTS)}
    )
    separator: str = ""  # special token between documents; "": none

    def __post_init__(self):
        super().__post_init__()
        if self.length < 1:
            raise ValueError(f"data.length={self.length} must be positive")


def load(cfg, split, names):
    """See `documents.load_documents`."""
    del names
    return documents.load_documents(cfg, split)


def texts(found):
    """The documents."""
    return found.texts


def rows(cfg, tokenizer, found, split):
    """(`TextBatch`, report), see `causal_rows`."""
    del split
    end = tokenizer.ids_of(cfg.separator)[0] if cfg.separator else None
    ids, report = causal_rows.encode_documents(tokenizer, found.texts)
    return causal_rows.causal_rows(ids, cfg.length, layout=cfg.layout, end=end), report


def change(cfg, tokenizer):
    """None: what follows a token does not change."""
