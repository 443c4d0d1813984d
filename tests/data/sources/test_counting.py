"""Documents that count: of one topic each, in order, and of one split."""

import dataclasses

import pytest

from tfm_jax.data.errors import DataError
from tfm_jax.data.rows import causal, pairs
from tfm_jax.data.sources import scenes
from tfm_jax.data.sources.images import nearest
from tfm_jax.data.sources.mechanisms import examples
from tfm_jax.data.sources.mechanisms.counting import KNOBS, Config, load

FEW = Config(topics=3, numbers=20, sentences=4, train=30, valid=8, test=5)
OTHERS = {
    "counting.topics": 4,
    "counting.numbers": 21,
    "counting.sentences": 5,
    "counting.train": 31,
    "counting.valid": 9,
    "counting.test": 6,
    "counting.seed": 1,
}


def test_a_document_has_one_topic_and_counts_on():
    named, _ = load(FEW, "train")
    for _, text in named:
        words = [line.split() for line in text.split("\n")]
        topics, numbers = zip(*words, strict=True)
        first = int(numbers[0])
        assert len(set(topics)) == 1 and topics[0] in ("t0", "t1", "t2")
        assert [*map(int, numbers)] == [*range(first, first + 4)]
        assert 0 <= first <= 16


def test_no_document_is_in_two_splits_and_training_changes_no_other():
    of = {split: load(FEW, split)[0] for split in ("train", "valid", "test")}
    assert [len(named) for named in of.values()] == [30, 8, 5]
    assert len({text for named in of.values() for _, text in named}) == 43
    fewer = dataclasses.replace(FEW, train=10)
    for split in ("valid", "test"):
        assert load(fewer, split)[0] == of[split]
    assert load(fewer, "train")[0] == of["train"][:10]


def test_every_knob_changes_what_there_is():
    assert OTHERS.keys() == {*KNOBS}
    for knob, other in OTHERS.items():
        name = knob.removeprefix("counting.")
        split = name if name in ("valid", "test") else "train"
        changed = dataclasses.replace(FEW, **{name: other})
        assert load(changed, split)[0] != load(FEW, split)[0], name


SECTIONS = (Config, scenes.Config, nearest.Config, examples.Config)


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__module__)
def test_what_is_drawn_and_held_in_memory_is_bounded(section):
    for split in ("train", "valid", "test"):
        with pytest.raises(ValueError, match=f"{split}=1000000000 must be"):
            section(**{split: 10**9})
    for split in ("recall_train", "recall_heldout"):
        with pytest.raises(ValueError, match=f"{split}=1000000000 must be"):
            causal.Config(source="recall", **{split: 10**9})
    for split in ("numerals_train", "numerals_heldout"):
        with pytest.raises(ValueError, match=f"{split}=1000000000 must be"):
            pairs.Config(**{split: 10**9})
        pairs.Config(**{split: 10_000_000})  # as many numbers as may be listed
    with pytest.raises(ValueError, match="numbers=100000 must be"):
        Config(numbers=100_000)  # of each topic all starts are drawn from


def test_more_documents_than_there_are_are_refused():
    with pytest.raises(DataError, match=r"counting.train=39: 3 topics .* make 51 docu"):
        load(dataclasses.replace(FEW, train=39), "train")
    with pytest.raises(DataError, match="make 0 documents"):
        load(dataclasses.replace(FEW, sentences=21), "train")
