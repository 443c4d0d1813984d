"""Rows that are made where they are indexed, all of them at once."""

import numpy as np

from tfm_jax.data.flat import Flat


def flat(documents, end=None):
    """Lists of ids as `Flat`, in the plainest way there is."""
    edge = np.array([] if end is None else [end], np.int64)
    parts = [part for ids in documents for part in (ids, edge)]
    ids = np.concatenate([edge, *parts]).astype(np.uint16)
    return Flat(ids, np.array([*map(len, documents)], np.uint32), end is not None)


def divided(documents):
    """Lists of sentences, int arrays each, as `Flat`, in the plainest way there is."""
    lengths = [len(sentence) for sentences in documents for sentence in sentences]
    return Flat(
        np.concatenate([sentence for sentences in documents for sentence in sentences]),
        np.array([sum(map(len, sentences)) for sentences in documents], np.uint32),
        sentences=np.cumsum([0, *lengths]),
        counts=np.array([*map(len, documents)], np.uint32),
    )


def whole(rows):
    """All fields as arrays."""
    return type(rows)(*(x if x is None else np.asarray(x) for x in rows))
