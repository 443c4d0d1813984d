import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.rows.whole import whole
from tfm_jax.data.arrays.mapped_rows import rows_of, tokens_of
from tfm_jax.data.batches import eval_batches
from tfm_jax.data.prepared import Prepared
from tfm_jax.data.rows import packing
from tfm_jax.data.tokenizers.bilingual import BOS, EOS

ROOM = (12, 9)
LENGTHS = st.lists(
    st.tuples(st.integers(1, ROOM[0]), st.integers(1, ROOM[1])), min_size=1, max_size=40
)


def examples(lengths):
    """Pairs whose every token tells which example, side and place it is from."""
    sides = []
    for side in (0, 1):
        tokens = [
            np.append(1000 * (n + 1) + 100 * side + np.arange(pair[side] - 1), EOS)
            for n, pair in enumerate(lengths)
        ]
        sides.append(packing.ragged(np.concatenate(tokens), [*map(len, tokens)]))
    return sides


def packed(lengths):
    source, target = examples(lengths)
    plan = packing.plan(source.lengths, target.lengths, *ROOM)
    return whole(packing.fill_rows(source, target, *plan, ROOM))


def segments_of(tokens, segments):
    """{segment: tokens} of one row."""
    return {
        s: tokens[segments == s].tolist() for s in np.unique(segments[segments > 0])
    }


@given(lengths=LENGTHS)
@settings(max_examples=100, deadline=None)
def test_every_pair_lies_whole_in_one_row_under_one_number_on_both_sides(lengths):
    source, target = examples(lengths)
    rows = packed(lengths)
    seen = []
    for s, ss, t, ts in zip(*rows, strict=True):
        left, right = segments_of(s, ss), segments_of(t, ts)
        assert list(left) == list(right) == list(range(1, len(left) + 1))
        seen += [(tuple(left[n]), tuple(right[n])) for n in left]
    whole = [
        tuple(
            tuple(side.ids[side.offsets[n] : side.offsets[n + 1]].tolist())
            for side in (source, target)
        )
        for n in range(len(lengths))
    ]
    assert sorted(seen) == sorted(whole)


@given(lengths=LENGTHS)
@settings(max_examples=100, deadline=None)
def test_positions_restart_and_inputs_are_labels_shifted_behind_bos(lengths):
    rows = packed(lengths)
    batch = packing.as_batch(rows)
    for side in ("source", "target"):
        segments = getattr(batch, f"{side}_segments")
        positions = getattr(batch, f"{side}_positions")
        for row, places in zip(segments, positions, strict=True):
            for n, found in segments_of(places, row).items():
                assert found == list(range(len(found))), (side, n)
    labels, inputs = batch.target_labels, batch.target_inputs
    for row, segments, shifted in zip(
        labels, batch.target_segments, inputs, strict=True
    ):
        behind = segments_of(shifted, segments)
        for n, found in segments_of(row, segments).items():
            assert found[-1] == EOS
            assert behind[n] == [BOS, *found[:-1]]
    for name, field in batch._asdict().items():
        assert field.dtype == np.int32, name
        padding = batch[name.startswith("target") and 5 or 1] == 0
        assert not field[padding].any(), name


@pytest.mark.parametrize("alone", [False, True])
@given(lengths=LENGTHS, numbers=st.lists(st.integers(0, 40), min_size=1, max_size=9))
@settings(max_examples=50, deadline=None)
def test_any_rows_are_those_of_all_rows(alone, lengths, numbers):
    source, target = examples(lengths)
    plan = packing.plan(source.lengths, target.lengths, *ROOM)
    if alone:
        plan = np.arange(len(lengths)), np.ones(len(lengths), int)
    rows = packing.fill_rows(source, target, *plan, ROOM)
    chosen = np.array(numbers) % len(rows.target)
    taken = rows_of(rows).take(chosen)
    for field, entire, some in zip(rows, whole(rows), taken, strict=True):
        assert field.dtype == entire.dtype and field.shape == entire.shape
        np.testing.assert_array_equal(field[chosen], entire[chosen], strict=True)
        np.testing.assert_array_equal(some, entire[chosen], strict=True)
    assert tokens_of(rows) == target.lengths.sum()


def test_packing_fills_rows_of_sentence_like_lengths_to_93_percent():
    rng = np.random.default_rng(0)
    source = np.clip(rng.gamma(9, 1.7, 5000).astype(int), 3, 48)
    target = np.clip(source + rng.integers(-4, 5, 5000), 3, 48)
    _, counts = packing.plan(source, target, 48, 48)
    assert counts.sum() == 5000
    assert (source.sum() + target.sum()) / (2 * 48 * len(counts)) > 0.93


def test_a_batch_is_padded_with_empty_rows_only():
    rows = packed([(4, 4)] * 3)
    data = Prepared(None, [rows], [rows], [], {}, {}, "", {}, packing.as_batch)
    (padded,) = eval_batches(data, "valid", batch_tokens=5 * rows.shape[-1])
    (real,) = eval_batches(data, "valid", batch_tokens=rows.target.size)
    for filled, field in zip(padded, real, strict=True):
        assert filled.shape[0] == 5
        np.testing.assert_array_equal(filled[: len(field)], field)
        assert not filled[len(field) :].any()
