"""Rows of any lengths through few compiled shapes."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from tfm_jax.data.batch import MaskedBatch, TextBatch
from tfm_jax.decode.inputs import Rows, check_rows
from tfm_jax.mesh import fetch

BATCH_TOKENS = 2048  # padding included; times the vocabulary, the logits of a batch
PER_TOKEN = ("tokens", "types")  # fields of a batch that have an entry a token


def over_rows(
    function: Callable,
    model: nn.Module,
    params: Mapping[str, Any],
    tokens: Rows,
    *,
    options: Sequence[Any] = (),
    batch_tokens: int = BATCH_TOKENS,
    on_batch: Callable[[int], object] = lambda count: None,
    **fields: Sequence[Any] | None,
) -> list[Any]:
    """What ``function`` finds for each row.

    Rows are sorted by length and padded on the right to powers of two, in batches of
    powers of two, so that little is compiled; what fills them up is never seen.

    Args:
        function: (model, params, batch, *options) -> tree of arrays [B, ...];
            compiled once for each shape and value of ``options``.
        model: a module whose ``cfg.longest`` says how long rows may be; 0: no limit.
        tokens: list of int arrays, each of at least one token.
        fields: further integer fields of a ``TextBatch``, or of a ``MaskedBatch`` if
            ``target_positions`` is among them, as lists of arrays; or None.
        on_batch: called with the number of rows of each batch when it is done.
    Returns: one tree of numpy arrays a row, in the order of ``tokens``; axes over
        tokens or target positions are padded.
    Raises: ValueError for a row that is empty or too long, or has ids out of range.
    """
    check_lengths(tokens, model.cfg.longest)
    given = {name: rows for name, rows in fields.items() if rows is not None}
    check_rows(tokens, model.cfg, given)
    found = {}
    for chosen, length in _plan([len(row) for row in tokens], batch_tokens):
        length = min(length, model.cfg.longest or length)
        count = power_of_two(len(chosen))
        filled = [*chosen, *[chosen[0]] * (count - len(chosen))]
        padded = {
            name: pad_rows([rows[i] for i in filled], length * (name in PER_TOKEN))
            for name, rows in {"tokens": tokens, **given}.items()
        }
        lengths = np.array([len(tokens[i]) for i in filled])
        segments = (np.arange(length) < lengths[:, None]).astype(np.int32)
        kind = MaskedBatch if "target_positions" in fields else TextBatch
        batch = kind(segments=segments, **padded)
        result = fetch(_run(function, model, tuple(options), params, batch))
        for row, i in enumerate(chosen):
            found[i] = jax.tree.map(lambda x, row=row: x[row], result)
        on_batch(len(chosen))
    return [found[i] for i in range(len(tokens))]


def check_lengths(
    tokens: Rows, longest: int, name: Callable[[int], str] = "text {}".format
) -> None:
    """Raises: ValueError for a row without tokens, or of more than ``longest``.

    Args: name: what the message calls a row of that number, from 0.
    """
    for row, one in enumerate(tokens):
        if not len(one):
            raise ValueError(f"{name(row)} has no token")
        if longest and len(one) > longest:
            raise ValueError(
                f"{name(row)} has {len(one)} tokens, special ones included; the "
                f"model takes {longest} (model.max_length)"
            )


def pad_rows(rows: Rows, length: int = 0) -> np.ndarray:
    """Int arrays as [B, T] int32, zeros behind; 0: T is the next power of two."""
    length = length or power_of_two(max(map(len, rows)))
    padded = np.zeros((len(rows), length), np.int32)
    for row, values in zip(padded, rows, strict=True):
        row[: len(values)] = values
    return padded


def power_of_two(n: int) -> int:
    """The least that is not below ``n``."""
    return 1 << max(n - 1, 0).bit_length()


def _plan(lengths, batch_tokens):
    """Yields (rows, padded length), short rows first."""
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    while order:
        length = max(power_of_two(lengths[order[0]]), 8)
        fits = max(batch_tokens // length, 1)
        room = 1 << (fits.bit_length() - 1)
        chosen = [i for i in order[:room] if lengths[i] <= length]
        yield chosen, length
        order = order[len(chosen) :]


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _run(function, model, options, params, batch):
    return function(model, params, batch, *options)
