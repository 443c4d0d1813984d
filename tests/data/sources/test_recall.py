"""Texts that ask for what they have said, and rows that ask for their ends."""

import collections
import itertools

import numpy as np
import pytest

from tfm_jax.config import ConfigError, load
from tfm_jax.data.rows import causal
from tfm_jax.data.sources import recall
from tfm_jax.data.tokenizers.vocabularies import train_text_tokenizer
from tfm_jax.settings.experiment import resolve
from tfm_jax.settings.new_runs import check_settings


def config(**changes):
    sizes = dict(recall_train=60, recall_heldout=40, recall_examples=5, recall_keys=4)
    return causal.Config(
        **dict(source="recall", length=12, layout="single") | sizes | changes
    )


def test_a_letter_has_one_digit_in_a_text_and_others_elsewhere():
    named, _ = recall.load(config(), "train")
    digits = {letter: set() for letter in "abcd"}
    for _, text in named:
        pairs = list(zip(text[::2], text[1::2], strict=True))
        assert len(pairs) == 6 and {key for key, _ in pairs} <= set("abcd")
        assert len(dict(pairs)) == len(set(pairs)), "one digit a letter"
        for letter, digit in pairs:
            digits[letter].add(digit)
    assert all(len(found) > 5 for found in digits.values())


def test_splits_are_drawn_apart_and_the_same_every_time():
    texts = {s: recall.load(config(test_share=0.1), s)[0] for s in recall._SPLITS}
    assert [len(found) for found in texts.values()] == [60, 40, 40]
    plain = [{text for _, text in found} for found in texts.values()]
    assert not plain[0] & plain[1] and not plain[1] & plain[2]
    assert recall.load(config(), "valid")[0] == texts["valid"]
    assert recall.load(config(), "test")[0] == []


@pytest.fixture
def asking():
    """A run that is trained on pairs; its variants ask after fewer."""
    cfg = load("gpt2_small:tiny")
    cfg.data.source, cfg.data.layout, cfg.data.length = "recall", "single", 33
    cfg.data.recall_train, cfg.data.separator = 200, ""
    cfg.tokenizer.kind = "character"
    cfg.eval.variants = ("k0:recall_examples=0;asked=last",)
    return cfg


def test_a_variant_may_be_of_few_texts_as_nothing_is_trained_on_them(asking):
    experiment = resolve(asking)
    check_settings(experiment)
    data = experiment.workload.prepare(experiment)
    (few,) = experiment.variants().values()
    assert few.workload.prepare(few, data.tokenizer).valid


def test_texts_of_which_there_are_few_are_not_trained_on(asking):
    """Else some would be held out and trained on, whatever the seed."""
    asking.data.recall_examples, asking.data.recall_keys = 1, 4
    words = "data.recall_examples=1 of data.recall_keys=4: about 203 pairs of one of"
    with pytest.raises(ConfigError, match=words):
        check_settings(resolve(asking))


@pytest.mark.parametrize("heldout, few", [(12, False), (13, True)])
def test_at_most_a_thousandth_of_a_collision_with_the_training_texts_is_expected(
    heldout, few
):
    sizes = dict(recall_train=200, recall_heldout=heldout)
    cfg = config(recall_examples=3, recall_keys=8, **sizes)
    assert bool(recall.few_texts(cfg)) == few


@pytest.mark.parametrize("keys, letters", [(1, 3), (2, 2), (3, 3)])
def test_the_collision_probability_is_that_of_all_texts_enumerated(keys, letters):
    """Texts of few distinct letters collide more often than those of many."""
    digits = range(3)  # of three, not ten, or there are too many
    texts = collections.Counter(
        tuple((k, told[k]) for k in asked)
        for told in itertools.product(digits, repeat=keys)
        for asked in itertools.product(range(keys), repeat=letters)
    )
    equal = sum(count**2 for count in texts.values()) / texts.total() ** 2
    assert recall.collision_probability(keys, letters, len(digits)) == pytest.approx(
        equal
    )


def test_only_the_last_digit_is_asked_for():
    cfg = config(asked="last")
    corpus, _ = causal.KIND.load(cfg, "valid")
    texts = [*corpus.texts()]
    tokenizer = train_text_tokenizer("character", texts)
    ((rows,), *_) = causal.KIND.rows(cfg, tokenizer, corpus, "valid")
    weights = rows.weights[:]
    assert (weights.sum(1) == 1).all()
    asked = rows.labels[:][weights > 0]
    ends = [row[-1] for row in tokenizer.encode(texts)]
    np.testing.assert_array_equal(asked, ends)
    packed = config(asked="last", layout="packed", length=23)
    ((of_both,), *_) = causal.KIND.rows(packed, tokenizer, corpus, "valid")
    labels, weights = of_both.labels[:], of_both.weights[:]
    assert sorted(labels[weights > 0]) == sorted(ends)


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(recall_keys=53), "data.recall_keys=53 must be from 1 to 52"),
        (dict(recall_train=0), "data.recall_train=0 must be positive"),
        (dict(asked="last", layout="joined"), "choose data.layout from"),
    ],
)
def test_wrong_settings_name_the_knob(changes, message):
    with pytest.raises(ValueError, match=message):
        config(**changes)
