from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.rows.whole import whole
from tests.data.tokenizers.published_folders import corpus, tokenizer
from tfm_jax.data.arrays.mapped_rows import rows_of, tokens_of
from tfm_jax.data.batch import MaskedBatch
from tfm_jax.data.errors import DataError
from tfm_jax.data.rows.masking import Config, Masker, masked_copies
from tfm_jax.data.rows.sentence_pairs import MaskedRows

TOKENIZER = tokenizer("wordpiece")
CLS, SEP, MASK = TOKENIZER.ids_of("[CLS]", "[SEP]", "[MASK]")
TEXT = np.concatenate(TOKENIZER.encode(corpus()))


def rows(lengths, width=128):
    """Rows of [CLS] text [SEP] text [SEP] with so many tokens in all."""
    tokens = np.zeros((len(lengths), width), np.int32)
    segments = np.zeros_like(tokens)
    for row, length in enumerate(lengths):
        text = np.take(TEXT, np.arange(31 * row, 31 * row + length), mode="wrap")
        text[0] = CLS
        text[[length // 2, -1]] = SEP
        tokens[row, :length], segments[row, :length] = text, 1
    return MaskedBatch(tokens, segments)


def seeds(count, epoch=0, seed=0):
    return [(seed, epoch, row) for row in range(count)]


def mask(batch, epoch=0, **changes):
    masker = Masker(Config(**changes), TOKENIZER)
    return masker(batch, seeds(len(batch.tokens), epoch))


def columns(masked):
    """The columns asked for of each row, and nothing else."""
    return [
        places[weights > 0]
        for places, weights in zip(masked.target_positions, masked.weights, strict=True)
    ]


MANY = rows([128] * 400)
KINDS = [{}, {"whole_words": True}, {"ngrams": 3}, {"ngrams": 3, "whole_words": True}]


@pytest.mark.parametrize("kind", KINDS)
@given(lengths=st.lists(st.integers(3, 128), min_size=1, max_size=5))
@settings(max_examples=30)
def test_only_real_tokens_are_asked_for_and_their_labels_are_the_originals(
    kind, lengths
):
    batch = rows(lengths)
    masked = mask(batch, **kind)
    assert masked.labels.dtype == masked.target_positions.dtype == np.int32
    assert masked.weights.dtype == np.float32
    for row, chosen in enumerate(columns(masked)):
        assert (np.diff(chosen) > 0).all()
        original = batch.tokens[row, chosen]
        assert not np.isin(original, list(TOKENIZER.special.values())[2:]).any()
        assert (batch.segments[row, chosen] == 1).all()
        size = len(chosen)
        np.testing.assert_array_equal(masked.labels[row, :size], original)
        assert not masked.labels[row, size:].any()
        assert not masked.target_positions[row, size:].any()
        elsewhere = np.delete(np.arange(128), chosen)
        np.testing.assert_array_equal(
            masked.tokens[row, elsewhere], batch.tokens[row, elsewhere]
        )


@pytest.mark.parametrize("length", [4, 9, 10, 30, 50, 100, 128])
def test_a_row_is_asked_for_as_many_tokens_as_in_berts_code(length):
    (chosen,) = columns(mask(rows([length])))
    assert len(chosen) == min(20, max(1, int(round(length * 0.15))), length - 3)


@pytest.mark.parametrize(
    "masked, random", [(0.8, 0.1), (1.0, 0.0), (0.85, 0.0), (0.0, 0.2), (0.0, 1.0)]
)
def test_what_is_seen_is_split_as_asked(masked, random):
    found = mask(MANY, mask=masked, random=random)
    asked = found.weights > 0
    seen = np.take_along_axis(found.tokens, found.target_positions, axis=1)[asked]
    labels = found.labels[asked]
    shares = np.array([np.mean(seen == MASK), np.mean(seen == labels)])
    # a random token is right, or [MASK], once in a vocabulary
    chance = random / TOKENIZER.vocab
    expected = np.array([masked + chance, 1 - masked - random + chance])
    assert np.abs(shares - expected).max() < 4 * np.sqrt(0.25 / asked.sum())
    if random == 1:
        assert seen.min() < 5 and seen.max() > TOKENIZER.vocab - 20  # of all tokens


def test_every_token_is_asked_for_equally_often():
    batch = rows([22])
    counts = Counter()
    for epoch in range(2000):
        counts.update(columns(mask(batch, epoch=epoch))[0].tolist())
    assert len(counts) == 19 - np.isin(batch.tokens[0, 1:21], [1]).sum()
    expected = sum(counts.values()) / len(counts)
    assert max(abs(n - expected) for n in counts.values()) < 5 * np.sqrt(expected)


def test_whole_words_are_asked_for_whole():
    masked = mask(MANY, whole_words=True)
    inside = ~TOKENIZER.word_starts(MANY.tokens)
    pieces = 0
    for row, chosen in enumerate(columns(masked)):
        assert 1 <= len(chosen) <= 19
        taken = set(chosen.tolist())
        for column in range(1, 128):
            if inside[row, column] and MANY.tokens[row, column - 1] not in (CLS, SEP):
                assert (column in taken) == (column - 1 in taken)
                pieces += column in taken
    assert pieces > 400  # it was not for lack of words in pieces


def test_words_at_once_are_neighbours_with_a_chance_of_one_over_their_number():
    batch = rows([512] * 200, width=512)
    masked = mask(batch, ngrams=3, mask_rate=0.02, most=10)
    lengths = Counter()
    for chosen in columns(masked):
        runs = np.split(chosen, np.flatnonzero(np.diff(chosen) > 1) + 1)
        lengths.update(len(run) for run in runs)
    total = sum(lengths[n] for n in (1, 2, 3))
    found = np.array([lengths[n] / total for n in (1, 2, 3)])
    # the last of a row may be cut for lack of room
    assert np.abs(found - np.array([6, 3, 2]) / 11).max() < 0.06
    plain = mask(batch, ngrams=1, mask_rate=0.02, most=10)
    neighbours = [np.mean(np.diff(c) == 1) for c in columns(plain)]
    assert np.mean(neighbours) < 0.05


def test_masks_differ_from_epoch_to_epoch_and_not_with_the_batch_around_a_row():
    whole = mask(MANY, epoch=3)
    part = Masker(Config(), TOKENIZER)(
        MaskedBatch(*(field if field is None else field[7:9] for field in MANY)),
        [(0, 3, 7), (0, 3, 8)],
    )
    for name in ("tokens", "target_positions", "labels", "weights"):
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[7:9])
    again = mask(MANY, epoch=4)
    assert (again.target_positions != whole.target_positions).any(axis=1).all()


def test_static_masks_are_copies_that_stay():
    batch = rows([100, 50, 20])
    tokens = batch.tokens[batch.segments > 0].astype(np.uint16)
    offsets = np.cumsum([0, *batch.segments.sum(1)])
    mapped = MaskedRows(
        {"rows": tokens, "offsets": offsets}, {"length": 128, "most": 0}
    )
    masker = Masker(Config(draw="static", copies=4), TOKENIZER)
    copies = masked_copies(mapped.fields(), masker, seed=5)
    assert copies.tokens.shape == (12, 128) and tokens_of(copies) == 4 * 170
    some = rows_of(copies).take(np.array([7, 2, 11]))
    for number, found in ((0, 7), (1, 2), (2, 11)):
        copy, row = divmod(found, 3)
        alone = type(batch)(*(x if x is None else x[row : row + 1] for x in batch))
        expected = masker(alone, [(5, copy, row)])
        for name in ("tokens", "segments", "labels", "weights", "target_positions"):
            (row_of_field,) = getattr(expected, name)
            np.testing.assert_array_equal(
                getattr(some, name)[number], row_of_field, strict=True
            )
    every = whole(copies)
    assert len({tuple(places) for places in every.target_positions[::3].tolist()}) == 4
    restored = every.tokens.copy()
    for row, chosen in enumerate(columns(every)):
        restored[row, chosen] = every.labels[row, : len(chosen)]
    np.testing.assert_array_equal(restored, np.tile(batch.tokens, (4, 1)))


def test_a_row_without_text_is_asked_for_nothing():
    batch = rows([3, 3])._replace(segments=np.zeros((2, 128), np.int32))
    masked = mask(batch, whole_words=True)
    assert not masked.weights.any()
    tokens = np.zeros((1, 128), np.int32)
    tokens[0, :3] = CLS, SEP, SEP
    masked = mask(MaskedBatch(tokens, (tokens > 0).astype(np.int32)))
    assert not masked.weights.any()


def test_a_tokenizer_without_a_mask_token_is_refused():
    with pytest.raises(DataError, match=r"no special token '\[MASK\]'"):
        Masker(Config(), tokenizer("byte_bpe"))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"mask_rate": 0.0}, r"masking\.mask_rate=0\.0"),
        ({"mask": 0.8, "random": 0.3}, r"mask=0\.8 and data\.masking\.random=0\.3"),
        ({"most": 0}, r"masking\.most=0 must be positive"),
    ],
)
def test_wrong_settings_name_the_knob(changes, message):
    with pytest.raises(ValueError, match=message):
        Config(**changes)
