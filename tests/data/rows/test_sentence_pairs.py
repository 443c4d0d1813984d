import functools
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.rows.whole import divided, whole
from tests.data.tokenizers.published_folders import corpus, tokenizer
from tfm_jax.data.arrays.tokenized import encode_documents
from tfm_jax.data.errors import DataError
from tfm_jax.data.rows import sentence_pairs, sentences
from tfm_jax.data.rows.masking import Config as MaskConfig
from tfm_jax.data.rows.masking import Masker
from tfm_jax.data.rows.sentence_pairs import FOLLOWS, OTHER, Config
from tfm_jax.data.rows.sentences import divide, split_sentences
from tfm_jax.data.sources.running_text import Documents

TOKENIZER = tokenizer("wordpiece")
CLS, SEP = TOKENIZER.ids_of("[CLS]", "[SEP]")


def pair_rows(documents, cfg, tokenizer, **settings):
    return whole(
        sentence_pairs.pair_rows(divided(documents), cfg, tokenizer, **settings)
    )


def encode_sentences(texts, how):
    """(lists of sentences, report)."""
    text, report = encode_documents(
        *(TOKENIZER, [Documents(texts, texts)]),
        split=functools.partial(divide, how=how),
    )
    parts = iter(np.split(text.ids, text.sentences[1:-1]))
    return [[next(parts) for _ in range(n)] for n in text.sentence_counts], report


def documents(counts, longest=12):
    """Token ``1000 d + n`` is the n-th of document d; sentences differ in length."""
    found = []
    for d, count in enumerate(counts):
        lengths = 1 + (np.arange(count) * 7 + d) % longest
        tokens = 1000 * (d + 1) + np.arange(lengths.sum(), dtype=np.int32)
        found.append(np.split(tokens, np.cumsum(lengths)[:-1]))
    return found


def halves(rows):
    """The texts A and B of every row."""
    for tokens, segments, types in zip(
        rows.tokens, rows.segments, rows.types, strict=True
    ):
        real = tokens[segments > 0]
        assert real[0] == CLS and real[-1] == SEP
        places = np.flatnonzero(real == SEP)
        middle = places[0]
        assert types[: middle + 1].max() == 0
        if len(places) == 2:
            assert types[middle + 1 : len(real)].min() == 1
            yield real[1:middle], real[middle + 1 : -1]
        else:
            yield real[1:middle], None
        assert not types[len(real) :].any() and not tokens[len(real) :].any()


def consecutive(tokens):
    return (np.diff(tokens) == 1).all()


COUNTS = st.lists(st.integers(1, 30), min_size=2, max_size=6)


@pytest.mark.parametrize("kind", ["nsp", "sop"])
@given(counts=COUNTS, length=st.integers(5, 60), seed=st.integers(0, 99))
@settings(max_examples=60)
def test_halves_are_neighbours_swapped_or_of_another_document(
    kind, counts, length, seed
):
    cfg = Config(kind=kind)
    if kind == "sop" and max(counts) == 1:
        with pytest.raises(DataError, match="each has but one sentence"):
            pair_rows(documents(counts), cfg, TOKENIZER, length=length, seed=seed)
        return
    rows = pair_rows(documents(counts), cfg, TOKENIZER, length=length, seed=seed)
    assert rows.pair_labels.dtype == np.int32
    for (first, second), label in zip(halves(rows), rows.pair_labels, strict=True):
        assert len(first) and len(second)
        assert consecutive(first) and consecutive(second)
        same = first[0] // 1000 == second[0] // 1000
        if label == FOLLOWS:
            assert same and first[-1] < second[0]
        elif kind == "sop":
            assert same and second[-1] < first[0]
        else:
            # ten tries in vain are possible where there are two documents
            assert not same or len(counts) < 4
    assert rows.tokens.shape[1] == length


def test_what_a_random_second_half_displaced_is_used_next():
    """Every sentence is the first or a true second part of some row, none twice."""
    cfg = Config(kind="nsp", short_share=0.0)
    given_documents = documents([40, 50, 60])
    rows = pair_rows(given_documents, cfg, TOKENIZER, length=63, seed=1)
    seen = []
    for (first, second), label in zip(halves(rows), rows.pair_labels, strict=True):
        seen += first.tolist() + (second.tolist() if label == FOLLOWS else [])
    everything = np.concatenate(sum(given_documents, []))
    assert len(seen) == len(set(seen))
    assert len(seen) > 0.8 * len(everything)  # the rest was trimmed away


@pytest.mark.parametrize("kind", ["nsp", "sop"])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_labels_have_the_share_asked_for(kind, share):
    cfg = Config(kind=kind, other_share=share)
    rows = pair_rows(documents([300] * 12), cfg, TOKENIZER, length=40, seed=0)
    found = np.mean(rows.pair_labels == OTHER)
    assert len(rows.tokens) > 400
    assert abs(found - share) < 3 * np.sqrt(0.25 / len(rows.tokens)) * (
        share == 0.5
    ) + (0.02 if share != 0.5 else 0)


def test_short_documents_have_shorter_rows():
    long, short = (
        pair_rows(
            documents([200] * 8),
            Config(short_share=share),
            TOKENIZER,
            length=128,
            seed=0,
        )
        for share in (0.0, 1.0)
    )
    assert (long.segments.sum(1) > 100).mean() > 0.9
    assert (short.segments.sum(1) > 100).mean() < 0.6


def test_without_pairs_a_row_is_one_text():
    cfg = Config(kind="none", short_share=0.0)
    rows = pair_rows(documents([30]), cfg, TOKENIZER, length=40, seed=0)
    assert rows.pair_labels is None
    assert not rows.types.any()
    for text, second in halves(rows):
        assert second is None and consecutive(text)


def test_pairs_are_the_same_on_every_run_and_masked_like_any_row():
    texts, report = encode_sentences(corpus(), "punctuation")
    assert report["documents"] == len(texts) == len(corpus())
    rows = pair_rows(texts, Config(), TOKENIZER, length=128, seed=7)
    again = pair_rows(texts, Config(), TOKENIZER, length=128, seed=7)
    np.testing.assert_array_equal(rows.tokens, again.tokens)
    other = pair_rows(texts, Config(), TOKENIZER, length=128, seed=8)
    assert not np.array_equal(rows.tokens[:5], other.tokens[:5])
    masked = Masker(MaskConfig(), TOKENIZER)(
        rows, [(0, 0, n) for n in range(len(rows.tokens))]
    )
    np.testing.assert_array_equal(masked.pair_labels, rows.pair_labels)
    assert masked.weights.any(axis=1).all()


def test_one_document_has_no_other():
    with pytest.raises(DataError, match=r"pairs\.kind='nsp' needs two documents"):
        pair_rows(documents([5]), Config(), TOKENIZER, length=128, seed=0)


@pytest.mark.parametrize(
    "how, text, expected",
    [
        ("line", "one a\n\n two b \n", ["one a", "two b"]),
        (
            "punctuation",
            'A dog ran.  It\nbarked! "Why?" he said. J. Smith left. See e.g. this.',
            ["A dog ran.", "It barked!", '"Why?" he said.', "J. Smith left.",
             "See e.g. this."],
        ),
        ("punctuation", "Title\n\nA text. (More)", ["Title", "A text.", "(More)"]),
    ],
)  # fmt: skip
def test_sentences_end_where_they_should(how, text, expected):
    assert split_sentences(text, how) == expected


def test_no_character_but_white_space_is_lost_between_sentences():
    for text in corpus():
        joined = "".join(split_sentences(text, "punctuation"))
        assert "".join(joined.split()) == "".join(text.split())


def test_sentences_without_tokens_are_left_out_and_counted():
    texts = ["one\n\x01\ntwo", "\x02\n", ""]
    found, report = encode_sentences(texts, "line")
    assert [len(document) for document in found] == [2]
    assert report["without_tokens"] == 2 and report["without_sentences"] == 2
    with pytest.raises(DataError, match="none of 1 documents has a sentence"):
        encode_sentences(["\x01"], "line")


TEXTS = st.text(st.sampled_from("ab A.!?) '\"\t\n\n"), max_size=60)


@pytest.mark.parametrize("how", sentences.SENTENCES)
@given(text=TEXTS, cuts=st.lists(st.integers(0, 60), max_size=4))
def test_sentences_do_not_depend_on_where_long_documents_are_cut(how, text, cuts):
    edges = [0, *sorted(cuts), len(text)]
    parts = [text[a:b] for a, b in itertools.pairwise(edges)]
    last = len(parts) - 1
    chunks = [
        Documents(["x"], [part], begins=not n, ends=n == last)
        for n, part in enumerate(parts)
    ]
    divided_parts = [texts for _, (texts,) in divide(chunks, how)]
    assert sum(divided_parts, []) == split_sentences(text, how)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"short_share": -0.1}, r"data\.pairs\.short_share=-0\.1"),
        ({"other_share": 1.5}, r"pairs\.other_share=1\.5"),
    ],
)
def test_wrong_settings_name_the_knob(changes, message):
    with pytest.raises(ValueError, match=message):
        Config(**changes)
