"""What a tokenizer is trained on: any file is read in bounded time."""

import itertools
import random
import tracemalloc

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies

from tfm_jax.data.prepared import digest_of, prepare
from tfm_jax.data.rows import labelled, pairs, tagged
from tfm_jax.data.tokenizers import bilingual, training_texts, vocabularies
from tfm_jax.data.tokenizers.training_texts import WORD, with_short_words

SENTENCES = [f"the {name} says {n}" for n in range(20) for name in ("cat", "dog")]
ENDLESS = "".join(random.Random(0).choices("abcdefghijklmnopqrstuvwxyz", k=200_000))


@hypothesis.given(
    strategies.lists(
        strategies.tuples(strategies.integers(0, 3 * WORD), strategies.text(" \n"))
    ),
)
def test_words_are_cut_to_a_length_and_nothing_is_lost(runs):
    text = "".join("x" * length + space for length, space in runs)
    pieces = [*with_short_words([text])]
    assert "".join(pieces) == text
    assert all(len(word) <= WORD for piece in pieces for word in piece.split(" "))
    if all(length <= WORD for length, _ in runs) and all(" " in s for _, s in runs):
        assert pieces == [text]


@pytest.mark.parametrize("kind", ["bpe", "unigram", "character"])
def test_a_pair_that_no_row_holds_is_dropped_before_a_tokenizer_is_trained(
    tmp_path, kind
):
    def prepared(*more):
        path = tmp_path / f"pairs{len(more)}"
        path.write_text("\n".join(f"{line}\t{line}" for line in (*SENTENCES, *more)))
        cfg = pairs.Config(source="parallel", train_files=(str(path),))
        return prepare(pairs.KIND, cfg, bilingual.Config(kind=kind, vocab=300))

    found, expected = prepared(ENDLESS), prepared()
    assert found.report["train"]["overlong"]["pairs"] == 1
    assert digest_of(found.train) == digest_of(expected.train)
    if kind != "unigram":  # of few lines its pieces are chance
        assert found.tokenizer.to_json() == expected.tokenizer.to_json()


def write_labelled(folder, lines):
    (folder / "file").write_text(
        "\n".join(f"{line}\t{n % 2}" for n, line in enumerate(lines))
    )
    return labelled.KIND


def write_tagged(folder, lines):
    words = ("\n".join(f"{word} O" for word in line.split(" ")) for line in lines)
    (folder / "file").write_text("\n\n".join(words))
    return tagged.KIND


@pytest.mark.parametrize("write", [write_labelled, write_tagged])
@pytest.mark.parametrize("trainer", ["wordpiece", "byte_bpe", "unigram"])
def test_a_text_that_no_row_holds_is_dropped_before_a_tokenizer_is_trained(
    tmp_path, write, trainer
):
    def prepared(*more):
        kind = write(tmp_path, [*SENTENCES, *more])
        cfg = kind.Config(
            train_files=(str(tmp_path / "file"),), overlong="drop", frame="bert"
        )
        special = ("[CLS]", "[SEP]")
        section = vocabularies.Config(kind=trainer, vocab=300, special=special)
        return prepare(kind, cfg, section)

    found, expected = prepared(ENDLESS), prepared()
    assert expected.report["train"]["kept"] == 40
    # WordPiece takes any word beyond 100 letters for one unknown token, which fits
    assert found.report["train"]["kept"] == 40 + (trainer == "wordpiece")
    if trainer != "unigram":
        assert found.tokenizer.to_json() == expected.tokenizer.to_json()


def test_of_many_texts_a_sample_from_first_to_last_is_read(monkeypatch):
    texts = [f"{n:04}" for n in range(1000)]
    assert training_texts.sample(texts) is texts
    monkeypatch.setattr(training_texts, "MOST", 400)
    sampled = [*training_texts.sample(texts)]
    assert sum(map(len, sampled)) == 400
    assert {*np.diff([*map(int, sampled)]).tolist()} == {10}


@hypothesis.given(
    lengths=strategies.lists(strategies.integers(0, 5_000), min_size=1, max_size=9),
    most=strategies.integers(1, 2_000),
)
def test_of_few_long_texts_parts_from_first_to_last_are_read(lengths, most):
    text = "".join(map(chr, range(200, 200 + sum(lengths))))
    ends = np.cumsum([0, *lengths])
    texts = [text[a:b] for a, b in itertools.pairwise(ends)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_texts, "MOST", most)
        patch.setattr(training_texts, "PART", 100)
        sampled = "".join(training_texts.sample(texts))
    assert sampled or not text
    assert abs(len(sampled) - min(most, len(text))) < 100
    places = np.array([*map(ord, sampled)]) - 200
    gaps = np.diff(places, prepend=-1, append=len(text))
    distance = 100 * -(-len(text) // most) + 200
    assert not len(text) or (gaps.min() > 0 and gaps.max() <= distance)


def test_characters_of_any_number_of_texts_are_found_in_little_memory():
    letters = "".join(map(chr, range(300, 400)))
    tracemalloc.start()
    texts = (letters for _ in range(2_000))
    trained = vocabularies.train_text_tokenizer("character", texts)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert trained.vocab == len(letters)
    assert peak < 2_000_000  # a set of each text would be 8 kB
