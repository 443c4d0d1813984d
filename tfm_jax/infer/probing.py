"""What trained models make of texts: words, labels, states, doubts."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tfm_jax.infer.rows import over_rows
from tfm_jax.infer.scoring import words
from tfm_jax.infer.topk import best_tokens
from tfm_jax.ops.pooling import POOLS


class Guesses(NamedTuple):
    """The likeliest words at the masks of one row, likeliest first.

    Attributes:
        places: [M] columns of the masks. tokens: [M, K] ids.
        probabilities: [M, K] float32, of all words.
    """

    places: np.ndarray
    tokens: np.ndarray
    probabilities: np.ndarray


def fill_masks(
    model, params, rows, mask: int, *, top: int = 5, types=None, **options
) -> list[Guesses]:
    """What a masked language model would put in the place of each mask, on its own.

    Args:
        rows: list of int arrays with one mask or more. mask: id of the mask token.
        top: K, how many words. types: like ``rows``, or None.
        options: of ``over_rows``.
    Raises: ValueError for a row without a mask.
    """
    places = [np.flatnonzero(np.asarray(row) == mask) for row in rows]
    for number, columns in enumerate(places):
        if not len(columns):
            raise ValueError(f"text {number} has no mask")
    extra = dict(places=places, types=types, options=(top,))
    found = over_rows(_fill, model, params, rows, **extra, **options)
    return [
        Guesses(columns, *(x[: len(columns)] for x in one))
        for columns, one in zip(places, found, strict=True)
    ]


def label_logits(model, params, rows, *, types=None, **options) -> np.ndarray:
    """Logits [B, labels] float32 of the head "classify", for rows of one text or pair.

    Args: rows, types, options: as in ``fill_masks``.
    """
    found = over_rows(_labels, model, params, rows, types=types, **options)
    return np.array(found, np.float32)


def outputs(model, params, rows, *, types=None, **options) -> list[np.ndarray]:
    """What the model returns for each row, axes over tokens padded with what is not.

    Args: rows, types, options: as in ``fill_masks``.
    """
    return over_rows(_outputs, model, params, rows, types=types, **options)


def embed(model, params, rows, *, pool: str = "mean", types=None, **options):
    """A vector [B, D] float32 of each row, out of the states of its tokens.

    Args: pool: a key of POOLS. rows, types, options: as in ``fill_masks``.
    Raises: ValueError for another ``pool``.
    """
    if pool not in POOLS:
        raise ValueError(f"pool={pool!r}; choose from ({', '.join(POOLS)})")
    extra = dict(types=types, options=(pool,))
    return np.array(over_rows(_embed, model, params, rows, **extra, **options))


def replaced(model, params, rows, *, types=None, **options) -> list[np.ndarray]:
    """Probability that each token was replaced, by ELECTRA's discriminator.

    Args: rows, types, options: as in ``fill_masks``.
    Returns: arrays [T] float32, like ``rows``.
    """
    found = over_rows(_replaced, model, params, rows, types=types, **options)
    return [x[: len(row)] for x, row in zip(found, rows, strict=True)]


def _fill(model, params, batch, top):
    logits = words(model.apply({"params": params}, batch, train=False))
    log_probs, ids = best_tokens(logits, top)
    return ids, jnp.exp(log_probs)


def _labels(model, params, batch):
    logits = _outputs(model, params, batch)
    return getattr(logits, "labels", logits)


def _outputs(model, params, batch):
    return model.apply({"params": params}, batch, train=False)


def _embed(model, params, batch, pool):
    x = model.apply({"params": params}, batch, train=False, method="encode")
    return POOLS[pool](x.astype(jnp.float32), batch.segments > 0)


def _replaced(model, params, batch):
    logits = model.apply({"params": params}, batch, train=False, method="discriminate")
    return jax.nn.sigmoid(logits)
