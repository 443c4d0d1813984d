"""How likely a model finds texts, token by token."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from tfm_jax.decode.inputs import Rows
from tfm_jax.decode.rows import over_rows


def next_log_probs(
    model: nn.Module, params: Mapping[str, Any], rows: Rows, **options: Any
) -> list[np.ndarray]:
    """Log-probability of each token but the first of its row, given those before it.

    Args:
        model: a causal language model.
        rows: list of B int arrays, T tokens each.
        options: of ``over_rows``.
    Returns: B arrays [T - 1] float32, nats.
    """
    found = over_rows(_next, model, params, rows, **options)
    return [x[: len(row) - 1] for x, row in zip(found, rows, strict=True)]


def masked_log_probs(
    model: nn.Module,
    params: Mapping[str, Any],
    rows: Rows,
    asked: Rows,
    mask: int,
    *,
    types: Rows | None = None,
    **options: Any,
) -> list[np.ndarray]:
    """Log-probability of some tokens of each row, given all others.

    Each of these tokens is masked alone in a copy of its row; their sum is the
    pseudo-log-likelihood.

    Source: Salazar et al. 2020, arXiv:1910.14659, section 2. Deviates: no.

    Args:
        model: a masked language model.
        rows: list of B int arrays. asked: their columns that count, B int arrays.
        mask: id of the mask token. types: like ``rows``, or None.
        options: of ``over_rows``.
    Returns: B arrays like ``asked`` float32, nats.
    """
    copies, positions, labels, kinds = [], [], [], []
    for number, (row, columns) in enumerate(zip(rows, asked, strict=True)):
        for column in columns:
            copy = np.array(row, np.int32)
            copy[column] = mask
            copies.append(copy)
            positions.append([column])
            labels.append([row[column]])
            kinds.append(None if types is None else types[number])
    extra: dict[str, Any] = dict(labels=labels, target_positions=positions)
    extra["types"] = kinds if types else None
    found = over_rows(_masked, model, params, copies, **extra, **options)
    flat = np.array(found, np.float32).reshape(-1)
    if not asked:
        return []
    return np.split(flat, np.cumsum([len(columns) for columns in asked])[:-1])


def lm_logits(output: Any) -> jax.Array:
    """LM logits of a model's output, which may hold those of other heads too."""
    return getattr(output, "lm_logits", output)


def _next(model, params, batch):
    logits = lm_logits(model.apply({"params": params}, batch, train=False))
    return _of(logits[:, :-1], batch.tokens[:, 1:])


def _masked(model, params, batch):
    logits = lm_logits(model.apply({"params": params}, batch, train=False))
    return _of(logits, batch.labels)


def _of(logits, tokens):
    """Log softmax of [..., V] at ``tokens`` [...]."""
    log_probs = jax.nn.log_softmax(logits, axis=-1)
    return jnp.take_along_axis(log_probs, tokens[..., None], axis=-1)[..., 0]
