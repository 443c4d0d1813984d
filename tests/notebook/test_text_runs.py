"""What runs of text can be asked, against what their models return."""

import functools
import itertools
import json

import jax
import numpy as np
import pytest
from scipy import special

from tests.notebook.random_runs import (
    ALONE,
    TEXTS,
    WINDOWS,
    logits_of,
    made,
)
from tfm_jax.data.batch import TextBatch
from tfm_jax.data.errors import DataError
from tfm_jax.data.tokenizers.vocabularies import train_text_tokenizer
from tfm_jax.notebook import RUNS
from tfm_jax.workloads import WORKLOADS


def log_softmax(logits):
    return special.log_softmax(logits, axis=-1)


def test_a_text_is_scored_by_the_logits_in_front_of_its_tokens(causal, started):
    (edge,) = causal.tokenizer.ids_of("<|endoftext|>")
    alone = causal.score(TEXTS)
    behind = started.score(TEXTS)
    given = started.score(TEXTS, prefix="a dog sat on")
    fronts = [], [edge], [edge, *causal.tokenizer.encode(["a dog sat on"])[0]]
    for row, text in enumerate(TEXTS):
        (ids,) = causal.tokenizer.encode([text])
        for found, front in zip((alone, behind, given), fronts, strict=True):
            tokens = np.array([*front, *ids])
            scores = log_softmax(logits_of(causal, tokens))
            asked = range(max(len(front), 1), len(tokens))
            wanted = sum(scores[t - 1, tokens[t]] for t in asked)
            table = found.iloc[row]
            np.testing.assert_allclose(table.log_prob, wanted, rtol=1e-4)
            assert table.tokens == len(asked)
            np.testing.assert_allclose(table.per_token, wanted / len(asked), rtol=1e-4)
            np.testing.assert_allclose(
                table.perplexity, np.exp(-wanted / len(asked)), rtol=1e-4
            )
    assert found.index.tolist() == TEXTS


def test_generation_gives_a_text_a_prompt_or_a_list_of_samples(causal, started):
    greedy = dict(max_tokens=3, temperature=0.0)
    texts = causal.generate(["the cat", "a"], **greedy)
    assert texts == [
        one for (one,) in causal.generate(["the cat", "a"], samples=1, **greedy)
    ]
    ids = causal.tokenizer.encode(["the cat"])[0]
    for _ in range(3):
        best = np.asarray(logits_of(causal, ids))[-1].argmax()
        ids = np.append(ids, best)
    assert causal.tokenizer.decode([ids[-3:]]) == [texts[0]]
    drawn = causal.generate(["the cat"], samples=4, max_tokens=3, top_p=0.9, seed=2)
    assert len(drawn[0]) == 4 and len({*drawn[0]}) > 1
    (best,) = causal.generate(["the cat"], max_tokens=3, beam=4, length_penalty=0.0)
    assert isinstance(best, str)
    with pytest.raises(ValueError, match="prompt '' has no token"):
        causal.generate([""])
    assert len(started.generate([""], max_tokens=2)) == 1


class Spy:
    """A tokenizer that keeps what it was given to decode."""

    def __init__(self, tokenizer):
        self._tokenizer, self.decoded = tokenizer, []

    def __getattr__(self, name):
        return getattr(self._tokenizer, name)

    def decode(self, rows):
        self.decoded += rows
        return self._tokenizer.decode(rows)


def test_a_text_ends_where_it_is_told_and_every_token_has_a_spelling():
    """The model's table is larger than the vocabulary."""
    run = made("causal_lm", "gpt", "lm", sizes=dict(vocab=120))
    for end in ("", "[SEP]"):
        spy = Spy(run.tokenizer)
        run._replace(tokenizer=spy).generate(
            ["the cat"], samples=60, max_tokens=12, temperature=9.0, end=end
        )
        lengths = {len(row) for row in spy.decoded}
        assert len(spy.decoded) == 60 and (lengths == {12}) == (not end)
        assert max(max(row, default=0) for row in spy.decoded) < run.tokenizer.vocab
    with pytest.raises(DataError, match="no special token '</s>'"):
        run.generate(["the cat"], end="</s>")


def test_masks_are_filled_with_the_likeliest_words(masked):
    text = "the [MASK] sat on the [MASK]"
    (ids,) = masked.tokenizer.encode(["the sat on the"])
    cls, sep, mask = masked.tokenizer.ids_of("[CLS]", "[SEP]", "[MASK]")
    row = np.array([cls, ids[0], mask, *ids[1:], mask, sep])
    probability = np.exp(log_softmax(logits_of(masked, row)))
    found = masked.fill_mask(["a [MASK]", text], top=3)
    found = found[found.text == 1]
    assert found["mask"].tolist() == [0] * 3 + [1] * 3
    for number, place in enumerate((2, 6)):
        order = np.argsort(-probability[place])[:3]
        one = found[found["mask"] == number]
        assert one.token.tolist() == masked.tokenizer.tokens(order)
        np.testing.assert_allclose(
            one.probability, probability[place, order], atol=1e-5
        )
    best = [probability[place].argmax() for place in (2, 6)]
    filled = np.array([ids[0], best[0], *ids[1:], best[1]])
    assert {found.filled.iloc[0], found.filled.iloc[3]} == {
        *masked.tokenizer.decode([filled])
    }
    assert masked.fill_mask([]).empty and masked.score([]).empty
    with pytest.raises(ValueError, match=r"text 'a dog' has no \[MASK\]"):
        masked.fill_mask(["a [MASK]", "a dog"])


def test_a_pseudo_score_counts_words_and_no_special_tokens(masked):
    pair = ("a dog", "the mat sat")
    found = masked.score([pair])
    first, second = masked.tokenizer.encode(pair)
    cls, sep, mask = masked.tokenizer.ids_of("[CLS]", "[SEP]", "[MASK]")
    row = np.array([cls, *first, sep, *second, sep])
    types = (np.arange(len(row)) > len(first) + 1).astype(int)
    words = [t for t in range(len(row)) if row[t] not in (cls, sep)]
    wanted = 0.0
    for t in words:
        copy = np.where(np.arange(len(row)) == t, mask, row)
        wanted += log_softmax(logits_of(masked, copy, types))[t, row[t]]
    np.testing.assert_allclose(found.log_prob, [wanted], rtol=1e-4)
    assert found.tokens.tolist() == [len(words)]


def test_vectors_come_from_the_framed_text(masked):
    cls, sep = masked.tokenizer.ids_of("[CLS]", "[SEP]")
    vectors = masked.embed(TEXTS, pool="first")
    assert vectors.shape == (3, 8)
    row = np.array([[cls, *masked.tokenizer.encode(TEXTS)[0], sep]])
    encode = functools.partial(masked.model.apply, train=False, method="encode")
    states = jax.jit(encode)(
        {"params": masked.params},
        TextBatch(row, np.ones_like(row), types=np.zeros_like(row)),
    )
    np.testing.assert_allclose(vectors[0], states[0, 0], atol=1e-5)


def test_electra_doubts_words_and_its_generator_fills_them_in():
    run = made("replaced_tokens", "electra", "pretraining")
    doubts = run.detect_replaced(TEXTS)
    assert doubts.text.tolist() == [0] * 6 + [1] * 2 + [2] * 3
    assert doubts.token.tolist()[-3:] == ["the", "mat", "sat"]
    cls, sep, mask = run.tokenizer.ids_of("[CLS]", "[SEP]", "[MASK]")
    (ids,) = run.tokenizer.encode(TEXTS[-1:])
    row = np.array([cls, *ids, sep])
    scores = logits_of(run, row).scores[1:-1]
    np.testing.assert_allclose(
        doubts.probability[-3:], special.expit(scores), atol=1e-5
    )
    filled = run.fill_mask(["the [MASK] sat"], top=2)
    row[2] = mask
    probability = special.softmax(logits_of(run, row).lm_logits[2])
    np.testing.assert_allclose(
        filled.probability, np.sort(probability)[::-1][:2], atol=1e-5
    )


def test_labels_of_models_from_elsewhere_are_numbers(tmp_path):
    (tmp_path / "data_report.json").write_text(json.dumps({"imported": {}}))
    run = made("classify", "bert", "classify", sizes=dict(labels=3), path=tmp_path)
    assert run.labels == ["0", "1", "2"]
    one = made("classify", "bert", "classify", sizes=dict(labels=1), path=tmp_path)
    assert one.labels == []


def test_a_generator_alone_has_states_of_its_own():
    run = made("masked_lm", "electra", "masked_lm", data=ALONE)
    assert run.embed(TEXTS).shape == (3, run.config.model.generator_width)
    assert len(run.fill_mask(["a [MASK]"], top=2)) == 2


@pytest.mark.parametrize("model, frame", [("albert", "bert"), ("gpt", "gpt1")])
def test_labels_are_named_as_in_the_report_of_the_data(model, frame, tmp_path):
    report = {"train": {"labels": ["no", "yes", "text"]}}
    (tmp_path / "data_report.json").write_text(json.dumps(report))
    run = made(
        "classify", model, "classify", sizes=dict(labels=3), path=tmp_path,
        data=dict(frame=frame, second_column="2"),
    )  # fmt: skip
    pairs = [*itertools.permutations(TEXTS, 2)]
    found = run.classify(pairs)
    assert found.columns.tolist() == ["no", "yes", "text"]
    assert found.index.tolist() == pairs
    np.testing.assert_allclose(found.sum(axis=1), 1.0, rtol=1e-5)
    alone = run.classify(pairs[2:3])
    np.testing.assert_allclose(found.iloc[2], alone.iloc[0], atol=1e-5)
    with pytest.raises(ValueError, match="learnt pairs of texts, these are single"):
        run.classify(TEXTS)
    with pytest.raises(TypeError, match="no .first, second. pair"):
        run.classify([pairs[0], "a dog"])
    assert run.embed(TEXTS).shape == (3, 8)


def test_a_number_is_a_score(tmp_path):
    report = {"train": {"labels": []}}
    (tmp_path / "data_report.json").write_text(json.dumps(report))
    run = made(
        "classify", "bert", "classify", sizes=dict(labels=1), path=tmp_path,
        data=dict(scores=True),
    )  # fmt: skip
    assert run.classify(TEXTS).columns.tolist() == ["score"]
    with pytest.raises(TypeError, match="one string; write classify"):
        run.classify("a dog")


def test_what_a_run_cannot_do_is_said_with_what_can(causal, masked):
    with pytest.raises(
        AttributeError, match="task masked_lm or replaced_tokens or .*; this"
    ):
        causal.fill_mask(["a [MASK]"])
    message = "generate is for runs of task causal_lm; .* learnt masked_lm and offers"
    with pytest.raises(AttributeError, match=f"{message} embed, evaluate, fill_"):
        masked.generate(["a"])
    with pytest.raises(AttributeError, match="a run has no 'sumarise'"):
        masked.sumarise()
    assert not hasattr(masked, "__wrapped__")
    assert "masked_lm" in repr(masked)


def test_what_cannot_be_asked_is_refused(causal, masked):
    for run, method in ((causal, "generate"), (causal, "score"), (masked, "embed")):
        with pytest.raises(TypeError, match="one string; write " + method):
            getattr(run, method)("a dog")
        with pytest.raises(TypeError, match="has None, which is no string"):
            getattr(run, method)(["a dog", None])
    long = "the cat sat on the mat " * 3
    with pytest.raises(ValueError, match="text 1 has 20 tokens.*takes 16"):
        masked.embed(["a", long])
    with pytest.raises(ValueError, match="prompt 1 has 18 tokens.* may have 12"):
        causal.generate(["a", long], max_tokens=5)
    plain = train_text_tokenizer("character", TEXTS)
    with pytest.raises(DataError, match=r"no special token '\[MASK\]'"):
        masked._replace(tokenizer=plain).fill_mask(["a [MASK]"])


def test_every_task_has_a_class():
    assert RUNS.keys() == WORKLOADS.keys()


def test_words_are_tagged_by_their_first_token(tmp_path):
    report = {"train": {"labels": ["O", "B-A", "I-A"]}}
    (tmp_path / "data_report.json").write_text(json.dumps(report))
    run = made("tag", "bert", "tag", sizes=dict(labels=3), path=tmp_path)
    found = run.tag(["the  thea sat", "a"])
    assert found.word.tolist() == ["the", "thea", "sat", "a"]
    assert found.text.tolist() == [0, 0, 0, 1]
    cls, sep = run.tokenizer.ids_of("[CLS]", "[SEP]")
    pieces = run.tokenizer.encode(["the", "thea", "sat"])
    assert len(pieces[1]) > 1
    row = np.array([[cls, *np.concatenate(pieces), sep]])
    chances = np.asarray(jax.nn.softmax(run.logits(row)[0], axis=-1))
    firsts = [1, 2, 2 + len(pieces[1])]
    names = np.array(["O", "B-A", "I-A"])
    assert found.tag.tolist()[:3] == names[chances[firsts].argmax(-1)].tolist()
    np.testing.assert_allclose(
        found.probability[:3], chances[firsts].max(-1), atol=1e-5
    )


def test_answers_are_found_in_windows_over_long_texts():
    run = made("span", "bert", "span", data=WINDOWS)
    text = " ".join(TEXTS * 3)
    found = run.answer([("a dog", text), ("the cat", "sat")], most=2, margin=-1e9)
    for one, whole in zip(found.itertuples(), (text, "sat"), strict=True):
        assert one.answer and whole[one.start : one.end] == one.answer
        assert len(one.answer.split()) <= 2
    cls, sep = run.tokenizer.ids_of("[CLS]", "[SEP]")
    first, second = run.tokenizer.encode(["the cat", "sat"])
    row = np.array([[cls, *first, sep, *second, sep]])
    types = (np.arange(row.shape[1]) > len(first) + 1).astype(int)
    starts, ends = run.logits(row, types=types[None])[0]
    place = len(first) + 2
    wanted = starts[place] + ends[place] - starts[0] - ends[0]
    np.testing.assert_allclose(found.margin[1], wanted, atol=1e-4)
    none = run.answer([("a dog", text)], margin=1e9)
    assert none.answer.tolist() == [""] and run.answer([]).empty
    with pytest.raises(TypeError, match="pairs"):
        run.answer(["a dog"])
