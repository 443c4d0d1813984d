"""What trained models make of texts: words, labels, states, doubts."""

import functools
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from tfm_jax.data.batch import TextBatch
from tfm_jax.decode.inputs import Rows
from tfm_jax.decode.rows import over_rows
from tfm_jax.decode.scoring import lm_logits
from tfm_jax.decode.topk import best_tokens
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
    model: nn.Module,
    params: Mapping[str, Any],
    rows: Rows,
    mask: int,
    *,
    top: int = 5,
    forbid: Collection[int] = (),
    types: Rows | None = None,
    **options: Any,
) -> list[Guesses]:
    """What a masked language model would put in the place of each mask, on its own.

    Args:
        rows: list of int arrays with one mask or more. mask: id of the mask token.
        top: K, how many words; all there are if they are fewer.
        forbid: ids that are no words; they keep their share of the probability.
        types: like ``rows``, or None. options: of ``over_rows``.
    Raises: ValueError for a row without a mask, and for a ``top`` below 1.
    """
    if top < 1:
        raise ValueError(f"top={top} must be 1 or more")
    places = [np.flatnonzero(np.asarray(row) == mask) for row in rows]
    for number, columns in enumerate(places):
        if not len(columns):
            raise ValueError(f"text {number} has no mask")
    forbid = tuple(forbid)
    top = min(top, model.cfg.vocab - len(forbid))
    where = dict(target_positions=places, types=types)
    extra: dict[str, Any] = where | dict(options=(top, forbid))
    found = over_rows(_fill, model, params, rows, **extra, **options)
    return [
        Guesses(columns, *(x[: len(columns)] for x in one))
        for columns, one in zip(places, found, strict=True)
    ]


def label_logits(
    model: nn.Module,
    params: Mapping[str, Any],
    rows: Rows,
    *,
    types: Rows | None = None,
    **options: Any,
) -> np.ndarray:
    """Logits [B, labels] float32 of the head "classify", for rows of one text or pair.

    Args: rows, types, options: as in ``fill_masks``.
    """
    found = over_rows(_labels, model, params, rows, types=types, **options)
    return np.array(found, np.float32)


def outputs(
    model: nn.Module,
    params: Mapping[str, Any],
    rows: Rows,
    *,
    types: Rows | None = None,
    **options: Any,
) -> list[np.ndarray]:
    """What the model returns for each row, axes over tokens padded with what is not.

    Args: rows, types, options: as in ``fill_masks``.
    """
    return over_rows(_outputs, model, params, rows, types=types, **options)


def embed(
    model: nn.Module,
    params: Mapping[str, Any],
    rows: Rows,
    *,
    pool: str = "mean",
    types: Rows | None = None,
    **options: Any,
) -> np.ndarray:
    """A vector [B, D] float32 of each row, out of the states of its tokens.

    Args: pool: a key of POOLS. rows, types, options: as in ``fill_masks``.
    Raises: ValueError for another ``pool``.
    """
    if pool not in POOLS:
        raise ValueError(f"pool={pool!r}; choose from ({', '.join(POOLS)})")
    extra: dict[str, Any] = dict(types=types, options=(pool,))
    found = over_rows(_embed, model, params, rows, **extra, **options)
    if not found:
        one = np.ones((1, 1), np.int32)
        of_one = functools.partial(_embed, model, batch=TextBatch(one, one), pool=pool)
        return np.zeros((0, jax.eval_shape(of_one, params).shape[-1]), np.float32)
    return np.array(found)


def replaced(
    model: nn.Module,
    params: Mapping[str, Any],
    rows: Rows,
    *,
    types: Rows | None = None,
    **options: Any,
) -> list[np.ndarray]:
    """Probability that each token was replaced, by ELECTRA's discriminator.

    Args: rows, types, options: as in ``fill_masks``.
    Returns: arrays [T] float32, like ``rows``.
    """
    found = over_rows(_replaced, model, params, rows, types=types, **options)
    return [x[: len(row)] for x, row in zip(found, rows, strict=True)]


def _fill(model, params, batch, top, forbid):
    logits = lm_logits(model.apply({"params": params}, batch, train=False))
    log_probs, ids = best_tokens(logits, top, forbid)
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
