from collections import Counter

import numpy as np
import pytest

from tests.data.rows.whole import documents_of, whole
from tfm_jax.data.batches import Order, eval_batches, train_batches
from tfm_jax.data.errors import DataError
from tfm_jax.data.prepared import Prepared, digest_of
from tfm_jax.data.rows import causal

TEXT = np.arange(1, 8 * 21 + 2, dtype=np.int32)


def causal_rows(texts, length):
    return whole(causal.causal_rows(documents_of(texts), length))


ROWS = causal_rows([TEXT], 8)
SMALL = causal_rows([TEXT[:41]], 4)
RUN = {"batch_tokens": 40, "seed": 3}


def data(row_sets, content="x", augment=None):
    """Prepared rows that are trained and evaluated on."""
    sets = [*row_sets]
    return Prepared(None, sets, sets, [], {}, {}, "", {"data": content}, augment)


def train(row_sets=(ROWS,), total_batches=12, content="x", augment=None, **settings):
    settings = RUN | settings | {"total_batches": total_batches}
    return train_batches(Order(), data(row_sets, content, augment), **settings)


def firsts(batches):
    return [int(row[0]) for batch in batches for row in batch.tokens if row[0]]


def same(one, other):
    for left, right in zip(one, other, strict=True):
        assert (left is None) == (right is None)
        if left is not None:
            np.testing.assert_array_equal(left, right)
            assert left.dtype == right.dtype


def test_every_row_is_trained_on_once_per_epoch_in_another_order():
    found = firsts(train(total_batches=35, batch_tokens=24))
    epochs = [found[n : n + 21] for n in range(0, 105, 21)]
    assert all(sorted(epoch) == sorted(ROWS.tokens[:, 0]) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 5


def test_a_run_keeps_its_rows_on_other_devices_that_divide_them():
    """Begun on three devices, with 24 rows, where others would have 16."""
    rows = [causal_rows([np.arange(1, 8 * 60 + 2, dtype=np.int32)], 8)]
    began = train(rows, batch_tokens=160, row_multiple=24, shards=3, own=range(3))
    next(began)
    state, second = began.get_state(), next(began)
    kept = dict(batch_tokens=160, row_multiple=8, batch_rows=state["batch_rows"])
    for shards in (1, 8):
        again = train(rows, **kept, shards=shards, own=range(shards))
        again.set_state(state)
        same(next(again), second)
    other = train(rows, **kept | {"row_multiple": 16}, shards=16, own=range(16))
    with pytest.raises(ValueError, match=r"\[24\] then, \[16\] now: mesh.data times"):
        other.set_state(state)


@pytest.mark.parametrize("cut", [0, 1, 4, 11])
def test_a_resumed_iterator_goes_on_with_the_same_batches(cut):
    whole = list(train((ROWS, SMALL)))
    first = train((ROWS, SMALL))
    for _ in range(cut):
        next(first)
    again = train((ROWS, SMALL))
    again.set_state(first.get_state())
    for one, other in zip(whole[cut:], again, strict=True):
        same(one, other)
    with pytest.raises(ValueError, match="data: 'x' then, 'y' now"):
        train((ROWS, SMALL), content="y").set_state(first.get_state())


def test_processes_get_slices_of_the_same_global_batches():
    settings = {"batch_tokens": 32, "row_multiple": 2}
    whole = list(train(**settings))
    parts = [train(shards=2, own=[n], **settings) for n in (0, 1)]
    for batch, left, right in zip(whole, *parts, strict=True):
        joined = np.concatenate([left.tokens, right.tokens])
        np.testing.assert_array_equal(batch.tokens, joined)
    with pytest.raises(ValueError, match="must be a multiple of .*shards=2"):
        train(shards=2)


def test_processes_get_their_shards_of_each_micro_batch():
    """Two of them, of four devices that are not next to each other."""
    settings = {"batch_tokens": 64, "row_multiple": 8, "micro_batches": 2}
    parts = [train(shards=4, own=own, **settings) for own in ([0, 2], [1, 3])]
    for batch, *both in zip(train(**settings), *parts, strict=True):
        wanted = batch.tokens.reshape(2, 4, -1, batch.tokens.shape[-1])
        for own, part in zip(([0, 2], [1, 3]), both, strict=True):
            rows = part.tokens.reshape(2, 2, -1, part.tokens.shape[-1])
            np.testing.assert_array_equal(rows, wanted[:, own])


def test_evaluation_holds_every_row_once_in_the_shapes_of_training():
    batches = list(
        eval_batches(data([ROWS, SMALL]), "valid", batch_tokens=40, row_multiple=5)
    )
    assert {batch.tokens.shape for batch in batches} == {(5, 8), (10, 4)}
    wanted = Counter([*ROWS.tokens[:, 0].tolist(), *SMALL.tokens[:, 0].tolist()])
    assert Counter(firsts(batches)) == wanted
    assert sum(batch.weights.sum() for batch in batches) == 168 + 40
    assert not batches[4].segments[1:].any()


def test_an_augmentation_is_drawn_anew_in_every_epoch_and_the_same_for_a_row():
    def augment(batch, seeds):
        return batch._replace(labels=seeds)

    batches = list(train(total_batches=21, augment=augment))
    seeds = np.concatenate([batch.labels for batch in batches])
    assert (seeds[:, 0] == RUN["seed"]).all()
    assert len({tuple(seed) for seed in seeds}) == 105
    tokens = np.concatenate([batch.tokens for batch in batches])
    np.testing.assert_array_equal(ROWS.tokens[seeds[:, 2]], tokens)
    (evaluated, *_) = eval_batches(
        data([ROWS], augment=augment), "valid", batch_tokens=40
    )
    assert evaluated.labels.tolist() == [[0, 0, n] for n in range(5)]


def test_too_few_texts_for_a_batch_are_an_error_and_not_an_endless_loop():
    message = (
        r"make \[21\] rows, less than one batch of \[22\]: lower train.batch_tokens"
    )
    with pytest.raises(DataError, match=message):
        train(batch_tokens=8 * 22)
    with pytest.raises(DataError, match="lower train.row_multiple"):
        train(batch_tokens=8, row_multiple=22)


def test_the_fingerprint_changes_with_any_field():
    known = digest_of([ROWS])
    assert known == digest_of([causal_rows([TEXT], 8)])
    for name in ("tokens", "segments", "labels", "weights"):
        field = getattr(ROWS, name).copy()
        field[3, 3] += 1
        assert digest_of([ROWS._replace(**{name: field})]) != known
    assert digest_of([ROWS, SMALL]) != known
