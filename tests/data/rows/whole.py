"""Rows that are made where they are indexed, all of them at once."""

import numpy as np

from tfm_jax.data.arrays.tokenized import TokenizedDocuments


def documents_of(documents, end=None):
    """Lists of ids as `TokenizedDocuments`, in the plainest way there is."""
    edge = np.array([] if end is None else [end], np.int64)
    parts = [part for ids in documents for part in (ids, edge)]
    ids = np.concatenate([edge, *parts]).astype(np.uint16)
    return TokenizedDocuments(
        ids, np.array([*map(len, documents)], np.uint32), end is not None
    )


def divided(documents):
    """The same of lists of sentences, int arrays each."""
    lengths = [len(sentence) for sentences in documents for sentence in sentences]
    return TokenizedDocuments(
        np.concatenate([sentence for sentences in documents for sentence in sentences]),
        np.array([sum(map(len, sentences)) for sentences in documents], np.uint32),
        sentences=np.cumsum([0, *lengths]),
        sentence_counts=np.array([*map(len, documents)], np.uint32),
    )


def whole(rows):
    """All fields as arrays."""
    return type(rows)(*(x if x is None else np.asarray(x) for x in rows))
