"""What a tokenizer is trained on: any file is read in bounded time."""

import random

import hypothesis
import pytest
from hypothesis import strategies

from tfm_jax.data import labelled_text, language, pipeline, tagged_text
from tfm_jax.data.tokenizers import bilingual
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
    pieces = with_short_words([text])
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
        cfg = pipeline.Config(source="parallel", train_files=(str(path),))
        return pipeline.prepare(cfg, bilingual.Config(kind=kind, vocab=300))

    found, expected = prepared(ENDLESS), prepared()
    assert found.report["train"]["overlong"]["pairs"] == 1
    assert found.train.kept.tolist() == expected.train.kept.tolist()
    if kind != "unigram":  # of few lines its pieces are chance
        assert found.tokenizer.to_json() == expected.tokenizer.to_json()


def labelled(folder, lines):
    (folder / "file").write_text(
        "\n".join(f"{line}\t{n % 2}" for n, line in enumerate(lines))
    )
    return labelled_text, labelled_text.Config


def tagged(folder, lines):
    words = ("\n".join(f"{word} O" for word in line.split(" ")) for line in lines)
    (folder / "file").write_text("\n\n".join(words))
    return tagged_text, tagged_text.Config


@pytest.mark.parametrize("write", [labelled, tagged])
@pytest.mark.parametrize("kind", ["wordpiece", "byte_bpe", "unigram"])
def test_a_text_that_no_row_holds_is_dropped_before_a_tokenizer_is_trained(
    tmp_path, write, kind
):
    def prepared(*more):
        task, section = write(tmp_path, [*SENTENCES, *more])
        cfg = section(
            train_files=(str(tmp_path / "file"),), overlong="drop", frame="bert"
        )
        special = ("[CLS]", "[SEP]")
        section = language.TokenizerConfig(kind=kind, vocab=300, special=special)
        return language.prepare(task, cfg, section)

    found, expected = prepared(ENDLESS), prepared()
    assert expected.report["train"]["kept"] == 40
    # WordPiece takes any word beyond 100 letters for one unknown token, which fits
    assert found.report["train"]["kept"] == 40 + (kind == "wordpiece")
    if kind != "unigram":
        assert found.tokenizer.to_json() == expected.tokenizer.to_json()
