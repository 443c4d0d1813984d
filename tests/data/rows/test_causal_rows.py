import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.rows.whole import documents_of, whole
from tests.data.tokenizers.published_folders import corpus, tokenizer
from tfm_jax.data.arrays.tokenized import encode_documents
from tfm_jax.data.errors import DataError
from tfm_jax.data.rows.causal import LAYOUTS
from tfm_jax.data.rows.causal import causal_rows as rows_of
from tfm_jax.data.sources.running_text import Documents

END = 9999
LENGTHS = st.lists(st.integers(1, 25), min_size=1, max_size=12)


def texts(lengths):
    """Documents whose every token tells which document and place it is from."""
    return [
        (100 * (n + 1) + np.arange(length)).astype(np.int32)
        for n, length in enumerate(lengths)
    ]


def causal_rows(documents, length, *, end=None, **settings):
    return whole(rows_of(documents_of(documents, end), length, **settings))


def encoded(tokenizer, documents, **settings):
    return encode_documents(tokenizer, [Documents([], documents)], **settings)


def asked(rows):
    """Every (input, label) pair that is asked for, in row order."""
    real = rows.weights > 0
    return list(
        zip(rows.tokens[real].tolist(), rows.labels[real].tolist(), strict=True)
    )


def expected(documents, end):
    pairs = []
    for document in documents:
        edge = [] if end is None else [end]
        text = [*edge, *document.tolist(), *edge]
        pairs += list(zip(text[:-1], text[1:], strict=True))
    return pairs


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("end", [END, None])
@given(lengths=LENGTHS)
def test_every_token_is_asked_for_once_after_the_one_before_it(layout, end, lengths):
    documents = texts(lengths)
    if layout == "joined" and end is None:
        documents = [np.concatenate(documents)]
    wanted = expected(documents, end)
    if not wanted:
        with pytest.raises(DataError, match="has a token to predict"):
            causal_rows(texts(lengths), 8, layout=layout, end=end)
        return
    rows = causal_rows(texts(lengths), 8, layout=layout, end=end)
    assert sorted(asked(rows)) == sorted(wanted)
    if layout != "packed":
        assert asked(rows) == wanted
    assert rows.tokens.shape[1] == 8
    assert (rows.segments > 0).any(axis=1).all()
    for name in ("tokens", "segments", "positions", "labels"):
        field = getattr(rows, name)
        if field is not None:
            assert field.dtype == np.int32
            assert not field[rows.segments == 0].any()
    assert rows.weights.dtype == np.float32


@pytest.mark.parametrize("layout", ["cut", "packed", "single"])
@given(lengths=LENGTHS)
def test_a_segment_is_of_one_document_and_counts_its_positions(layout, lengths):
    rows = causal_rows(texts(lengths), 8, layout=layout, end=END)
    positions = rows.positions
    if layout == "single":  # as of every text that has a row of its own
        assert positions is None
        positions = np.arange(8) * (rows.segments > 0)
    for tokens, segments, places in zip(
        rows.tokens, rows.segments, positions, strict=True
    ):
        numbers = segments[segments > 0]
        assert (np.diff(numbers) >= 0).all()
        assert sorted(set(numbers)) == list(range(1, numbers.max() + 1))
        for n in set(numbers):
            own = tokens[segments == n]
            assert len(set((own[own != END] // 100).tolist())) <= 1
            assert places[segments == n].tolist() == list(range(len(own)))
    assert layout != "single" or rows.segments.max() == 1


def test_joined_and_cut_rows_hold_the_same_tokens():
    one, other = (
        causal_rows(texts([5, 9, 30, 1]), 8, layout=layout, end=END)
        for layout in ("joined", "cut")
    )
    np.testing.assert_array_equal(one.tokens, other.tokens)
    np.testing.assert_array_equal(one.labels, other.labels)
    np.testing.assert_array_equal(one.segments > 0, other.segments > 0)


@given(lengths=LENGTHS)
def test_context_is_repeated_and_not_asked_for_again(lengths):
    documents = texts(lengths)
    rows = causal_rows(documents, 8, end=END, context=6)
    assert asked(rows) == expected(documents, END)
    for before, after in zip(rows.tokens[:-1], rows.tokens[1:], strict=True):
        np.testing.assert_array_equal(before[2:], after[:6])
    assert not rows.weights[1:, :6].any()


def test_packing_fills_rows_of_documents():
    text, _ = encoded(tokenizer("byte_bpe"), corpus(), end=599)
    rows = whole(rows_of(text, 512, layout="packed"))
    assert (rows.segments > 0).mean() > 0.95


def test_nanogpts_shakespeare_is_one_text_of_characters():
    text = np.arange(100, dtype=np.int32)
    rows = causal_rows([text], 33)
    assert rows.tokens.tolist() == text[:99].reshape(3, 33).tolist()
    assert rows.labels.tolist() == text[1:].reshape(3, 33).tolist()
    assert rows.positions is None


def test_documents_without_tokens_are_left_out_and_counted():
    text, report = encoded(tokenizer("wordpiece"), ["a dog", "\x01", "", "b"])
    assert len(text.lengths) == 2
    assert report == {"without_tokens": 2, "tokens": len(text.ids)}
    with pytest.raises(DataError, match="none of 2 documents has a token"):
        encoded(tokenizer("wordpiece"), ["", " "])


@pytest.mark.parametrize("bad", [-1, 600])
def test_token_ids_outside_the_vocabulary_are_refused(bad):
    class Broken:
        vocab, fingerprint = 600, "broken"

        def encode(self, texts):
            return [np.array([bad], np.int32) for _ in texts]

    with pytest.raises(DataError, match=rf"{bad}.*outside the vocabulary 0\.\.599"):
        encoded(Broken(), ["x"])


def test_a_document_of_a_million_tokens_is_cut_to_rows():
    text = np.ones(1_000_000, np.int32)
    for layout in LAYOUTS:
        rows = causal_rows([text], 1024, layout=layout, end=2)
        assert rows.weights.sum() == 1_000_001, layout


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"layout": "join"}, r"data\.layout='join'; choose from \(joined, cut"),
        ({"context": 8}, r"data\.context=8 must be less than data\.length=8"),
        ({"context": 2, "layout": "cut"}, r"0 unless data\.layout=joined"),
    ],
)
def test_wrong_settings_name_the_knob(settings, message):
    with pytest.raises(DataError, match=message):
        causal_rows(texts([5]), 8, end=END, **settings)
