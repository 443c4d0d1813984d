import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

from tfm_jax.decode.prompting import Example, Prompting, answer, drawn, prompt

FILMS = [Example("fine", "1"), Example("dull", "0"), Example("warm {label}", "1")]
WORDS = {"0": "bad", "1": "good"}
REVIEW = Prompting(
    template="Review: {text}\nIt is {label}.", separator="\n--\n", words=WORDS
)


class Size(NamedTuple):
    longest: int = 0
    vocab: int = 128


@dataclasses.dataclass(frozen=True)
class Bigrams:
    """The next character depends on the last one; parameters: logits [128, 128]."""

    cfg: Size = Size()

    def apply(self, variables, *inputs, method="score", **options):
        return getattr(self, method)(variables["params"], *inputs, **options)

    def score(self, table, batch, train):
        return table[batch.tokens]

    def prefill(self, table, tokens, lengths, width, max_length):
        return jnp.zeros(())

    def step(self, table, tokens, cache):
        return table[tokens], cache


class Characters:
    def encode(self, texts):
        return [np.array([ord(c) for c in text], np.int32) for text in texts]

    def decode(self, rows):
        return ["".join(chr(i) for i in row) for row in rows]

    def unspelled(self, rows):
        return ()


def table(likely=None):
    """Logits: after the first character of a name the second one has its logit."""
    logits = np.zeros((128, 128), np.float32)
    for (first, second), value in (likely or {}).items():
        logits[ord(first), ord(second)] = value
    return jnp.asarray(logits)


def asked(params, queries, how, names=("0", "1"), examples=(), size=0, **options):
    parts = Bigrams(Size(size)), params, Characters()
    return answer(*parts, queries, examples, names, how, **options)


def test_a_prompt_is_the_text_written_out():
    how = REVIEW._replace(examples=2, instruction="Judge.")
    context, space = prompt(how, FILMS[1:], Example("odd", "0"))
    assert context + space + "good" == (
        "Judge.\n--\n"
        "Review: dull\nIt is bad.\n--\n"
        "Review: warm {label}\nIt is good.\n--\n"
        "Review: odd\nIt is good"
    )
    assert space == " "
    pair = Prompting(template="{text}? {second}: {label}")
    assert prompt(pair, [], Example("a", "", "b")) == ("a? b:", " ")


def test_examples_are_drawn_for_each_query_alone():
    pool = [Example(str(n), "0") for n in range(20)]
    how = Prompting(examples=4, seed=3)
    first, second = (drawn(how, pool, number) for number in (0, 1))
    assert first != second and len({*first}) == len({*second}) == 4
    assert drawn(how, pool, 1) == second
    assert drawn(how._replace(examples=2), pool, 1) == second[:2]
    assert drawn(how._replace(seed=4), pool, 1) != second
    everything = drawn(how._replace(examples=20), pool, 0)
    assert sorted(everything) == sorted(pool)
    with pytest.raises(ValueError, match="examples=21, but there are 20"):
        drawn(how._replace(examples=21), pool, 0)


def test_the_likelier_words_are_chosen_and_scored_by_their_characters():
    """b behind a space is unlikely, but "ad" behind "b" makes up for it."""
    params = table({" b": -1.0, "ba": 9.0, "ad": 9.0, "go": 2.0})
    found = asked(params, FILMS, REVIEW)
    log = np.asarray(params) - np.log(np.exp(params).sum(-1, keepdims=True))
    for column, word in enumerate((" bad", " good")):
        text = "s" + word  # "It is"
        wanted = sum(log[ord(a), ord(b)] for a, b in zip(text, text[1:], strict=False))
        np.testing.assert_allclose(found.scores[:, column], wanted, rtol=1e-5)
    assert found.chosen.tolist() == [0, 0, 0] and not found.written
    better = asked(table({"go": 9.0, "oo": 9.0, "od": 9.0}), FILMS, REVIEW)
    assert better.chosen.tolist() == [1, 1, 1]


def test_scores_are_sums_means_or_without_what_a_label_has_anyway():
    params = table({" g": 3.0, "go": 4.0, "oo": 4.0, "od": 4.0, ":g": 5.0})
    how = REVIEW._replace(neutral="A:")
    found = {
        scoring: asked(params, FILMS[:1], how._replace(scoring=scoring)).scores[0]
        for scoring in ("sum", "mean", "normalised")
    }
    np.testing.assert_allclose(found["mean"], found["sum"] / [4, 5], rtol=1e-5)
    log = np.asarray(params) - np.log(np.exp(params).sum(-1, keepdims=True))
    start = log[ord("s"), ord(" ")] - log[ord(":"), ord(" ")]
    np.testing.assert_allclose(found["normalised"], [start, start], atol=1e-5)


def test_what_is_written_must_be_the_words_of_a_label():
    chain = {f"{a}{b}": 9.0 for a, b in ("s ", " g", "go", "oo")}
    how = REVIEW._replace(scoring="generated")
    endless = asked(table(chain), FILMS[:2], how)
    assert endless.written == ["gooo"] * 2 and endless.chosen.tolist() == [-1, -1]
    chain = {f"{a}{b}": 9.0 for a, b in ("s ", " b", "ba", "ad", "d\n")}
    found = asked(table(chain), FILMS[:2], how)
    assert found.written == ["bad"] * 2 and found.chosen.tolist() == [0, 0]


def test_a_start_token_stands_in_front_of_every_prompt():
    how = Prompting(template="{label} {text}", words=WORDS)
    with pytest.raises(ValueError, match="context '' has no token to start with"):
        asked(table(), FILMS, how)
    found = asked(table({"Zb": 9.0}), FILMS, how, start=ord("Z"))
    assert found.chosen.tolist() == [0, 0, 0]


@pytest.mark.parametrize("scoring", ["sum", "generated"])
def test_prompts_that_do_not_fit_say_how_many_examples_would(scoring):
    how = REVIEW._replace(examples=2, scoring=scoring)
    even = [Example("12345678", "1")] * 4
    block, query = len("Review: 12345678\nIt is good.\n--\n"), len("Review: 12\nIt is")
    longest = query + len(" good")
    for room, fits in (
        (longest - 1, "not even a query fits"),
        (longest, "0 fit"),
        (block + longest, "1 fit"),
    ):
        with pytest.raises(ValueError, match=f"takes {room} .*: {fits}"):
            asked(table(), [Example("12", "0")] * 2, how, examples=even, size=room)
    room = 2 * block + longest
    found = asked(table(), [Example("12", "0")], how, examples=even, size=room)
    assert len(found.chosen) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(scoring="best"), r"scoring='best'; choose from \(sum, mean, norm"),
        (dict(template="{text}"), "must have {text}, and {label} once"),
        (
            dict(template="{label}: {label} {text}"),
            "must have {text}, and {label} once",
        ),
        (dict(words={"2": "x"}), r"words names labels \['2'\]; choose from \(0, 1\)"),
        (dict(examples=-1), "examples=-1 must not be negative"),
        (dict(words={"0": ""}, template="{text}{label}"), "answer '' has no token"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        asked(table(), FILMS, REVIEW._replace(**changes))


def test_no_query_has_no_answer():
    for scoring in ("sum", "generated"):
        found = asked(table(), [], REVIEW._replace(scoring=scoring))
        assert found.chosen.shape == (0,) and found.scores.shape == (0, 2)
