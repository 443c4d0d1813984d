"""Sequences in, sequences out, for any model that encodes once and then steps."""

import collections
import contextlib
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import linen as nn
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from tfm_jax.decode.beam import beam_search
from tfm_jax.decode.greedy import greedy
from tfm_jax.decode.hypotheses import Hypotheses
from tfm_jax.decode.inputs import Rows
from tfm_jax.decode.rows import check_lengths
from tfm_jax.mesh import divided, fetch, on_this_host


class TokenIds(NamedTuple):
    """Token ids; ``forbid`` are never produced. Defaults are our tokenizers'."""

    pad: int = 0
    bos: int = 1  # what the first token follows
    eos: int = 2
    forbid: tuple[int, ...] = (0, 1)


SPECIAL = TokenIds()
ROWS = "rows"  # mesh axis of decoding: each device takes some sentences
TAIL = 1 / 4  # of a device's sentences: the last ones go on in so many rows
FEWEST = 8  # rows of a tail: each of fewer takes longer


def rows_mesh(devices: Sequence[jax.Device]) -> Mesh:
    """A mesh of one axis, ``ROWS``."""
    return jax.make_mesh((len(devices),), (ROWS,), (AxisType.Auto,), devices=devices)


class Search(NamedTuple):
    """How to decode; one compilation for each value and shape of source."""

    beam: int = 4  # 1: greedy
    length_penalty: float = 0.6
    max_length: int = 64  # T, positions of the cache
    special: TokenIds = SPECIAL
    force_eos: bool = False
    returned: int = 4  # best hypotheses of the beam that are kept


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def search(
    model: nn.Module,
    how: Search,
    mesh: Mesh | None,
    params: Mapping[str, Any],
    source: jax.Array,
    segments: jax.Array,
    limits: jax.Array,
) -> Hypotheses:
    """Hypotheses for source tokens [B, S]; ``limits`` [B] on their lengths.

    Every device of ``mesh`` decodes its share of the rows at its own pace. None: what
    the parameters are divided over decodes together.
    """
    if mesh is None:
        return _search(model, how, 0.0, params, source, segments, limits)
    split = jax.shard_map(
        functools.partial(_search, model, how, TAIL),
        mesh=mesh,
        in_specs=(PartitionSpec(), *[PartitionSpec(ROWS)] * 3),
        out_specs=PartitionSpec(ROWS),
        check_vma=False,
    )
    return split(params, source, segments, limits)


def _search(model, how, share, params, source, segments, limits):
    variables = {"params": params}
    memory = model.apply(variables, source, segments, train=False, method="encode")
    cache = model.apply(
        variables,
        memory,
        segments,
        width=how.beam,
        max_length=how.max_length,
        method="init_cache",
    )

    def step(tokens, cache):
        return model.apply(variables, tokens, cache, method="step")

    tail = int(share * len(source))
    shared = dict(
        how.special._asdict(),
        batch=len(source),
        max_length=how.max_length,
        limits=limits,
        force_eos=how.force_eos,
        tail=tail if tail >= FEWEST else 0,
    )
    if how.beam == 1:
        return greedy(step, cache, **shared)
    return beam_search(
        step,
        cache,
        beam=how.beam,
        length_penalty=how.length_penalty,
        returned=how.returned,
        **shared,
    )


def decode(
    model: nn.Module,
    params: Mapping[str, Any],
    sources: Rows,
    *,
    beam: int = 4,
    length_penalty: float = 0.6,
    offset: int = 50,
    batch_sentences: int = 128,
    special: TokenIds = SPECIAL,
    force_eos: bool = False,
    returned: int | None = None,
    on_batch: Callable[[int], object] = lambda count: None,
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Decodes token sequences, sorted by length and spread over the local devices.

    Parameters that are divided over a mesh, see ``mesh.divided``, stay there; then it
    must be the one in use, and all its processes must call this.

    A step costs what the rows of its batch and the room of its cache cost. So the last
    ``TAIL`` of a batch go on alone, and it has room for a quarter more tokens than its
    sources have. The few translations that are longer are decoded again in the end,
    with all the room that they may need: the results are the same.

    Args:
        model: a module with methods ``encode``, ``init_cache`` and ``step``; its
            ``cfg.longest`` says how long sequences may be, 0: no limit.
        sources: list of int arrays that end in EOS.
        offset: a translation is at most this many tokens longer than its source, and
            never longer than ``cfg.longest``.
        batch_sentences: rows of a batch; the last one is filled up.
        force_eos: the last token that a limit allows is EOS.
        returned: R, how many hypotheses of the beam come back; fewer take fewer steps.
        on_batch: called with the number of sentences of each batch when it is done.
    Returns: list of (tokens [R, T], scores [R], lengths [R]), in the order of
        ``sources``; tokens end in EOS and are padded behind it.
    Raises: ValueError for a source that is empty or too long.
    """
    longest = model.cfg.longest or math.inf
    check_lengths(sources, model.cfg.longest)
    how = Search(
        beam=beam,
        length_penalty=length_penalty,
        special=special,
        force_eos=force_eos,
        returned=returned or beam,
    )
    results = {}
    with contextlib.ExitStack() as stack:
        if divided(params):
            mesh, count = None, jax.sharding.get_abstract_mesh().size
        else:
            mesh, count = rows_mesh(jax.local_devices()), jax.local_device_count()
            stack.enter_context(jax.set_mesh(mesh))
            stack.enter_context(nn.logical_axis_rules(()))
            params = jax.device_put(
                on_this_host(params), NamedSharding(mesh, PartitionSpec())
            )
        rows = _round_up(batch_sentences, count)
        # neighbours in length go to different devices, which get equal shares of work
        dealt = np.arange(rows).reshape(count, -1).T.ravel()

        def run(chosen, room):
            """Tries ``chosen`` with ``room(source length)`` tokens; -> those left."""
            left, pending = [], collections.deque()

            def collect(batch, hypotheses):
                *best, complete = fetch(hypotheses)
                for row, i in zip(dealt, batch, strict=False):
                    if complete[row]:
                        results[i] = tuple(x[row] for x in best)
                    else:
                        left.append(i)
                on_batch(int(np.sum(complete[dealt[: len(batch)]])))

            order = sorted(chosen, key=lambda i: len(sources[i]))
            for first in range(0, len(order), rows):
                batch = order[first : first + rows]
                texts = {row: sources[i] for row, i in zip(dealt, batch, strict=False)}
                taken = _rows(texts, rows, offset, longest, special.pad)
                steps = min(room(taken[0].shape[1]), longest)
                wanted = how._replace(max_length=steps)
                pending.append((batch, search(model, wanted, mesh, params, *taken)))
                if len(pending) > 1:  # devices work while the next batch is made
                    collect(*pending.popleft())
            while pending:
                collect(*pending.popleft())
            return left

        left = range(len(sources))
        if len(left) > rows:  # the long ones of all batches together, later
            left = run(left, lambda length: length + min(offset, length // 4))
        run(left, lambda length: length + offset)
    return [results[i] for i in range(len(sources))]


def _rows(texts, count, offset, longest, pad):
    length = min(_bucket(max(map(len, texts.values()))), longest)
    tokens = np.full((count, length), pad, np.int32)
    segments = np.zeros((count, length), np.int32)
    limits = np.ones((count,), np.int32)  # rows that fill the batch end at once
    for row, source in texts.items():
        tokens[row, : len(source)] = source
        segments[row, : len(source)] = 1
        limits[row] = min(len(source) + offset, longest)
    return tokens, segments, limits


def _bucket(n):
    """16, 24, 32, 48, 64, ...: few shapes, so that little is compiled."""
    power = 1 << max((n - 1).bit_length(), 4)
    return power * 3 // 4 if 16 < n <= power * 3 // 4 else power


def _round_up(n, multiple):
    return -(-n // multiple) * multiple
