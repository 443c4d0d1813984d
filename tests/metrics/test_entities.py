import pytest

from tfm_jax.metrics.entities import entities, entity_scores


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        ("B-PER I-PER O B-LOC", [("PER", 0, 1), ("LOC", 3, 3)]),
        ("I-PER I-PER B-PER O", [("PER", 0, 1), ("PER", 2, 2)]),  # IOB1
        ("B-PER I-LOC I-LOC", [("PER", 0, 0), ("LOC", 1, 2)]),
        ("O I-ORG", [("ORG", 1, 1)]),
        ("B-PER O I-PER", [("PER", 0, 0), ("PER", 2, 2)]),
        ("B-PER I-PER E-PER S-PER", [("PER", 0, 2), ("PER", 3, 3)]),  # IOBES
        ("E-PER I-PER", [("PER", 0, 0), ("PER", 1, 1)]),
        ("B-A-B I-A-B", [("A-B", 0, 1)]),  # a dash in the name
        ("NN NN O", [("NN", 0, 0), ("NN", 1, 1)]),
        ("O O", []),
    ],
)
def test_tags_mark_entities(tags, found):
    assert entities(tags.split()) == found


def test_an_entity_counts_if_kind_and_ends_are_right():
    """Two right of four said and three there: by hand 2/4, 2/3 and 4/7."""
    true = ["B-PER I-PER O B-LOC".split(), "O B-ORG O".split()]
    said = ["B-PER I-PER O B-ORG".split(), "B-ORG I-ORG O".split()]
    found = entity_scores(said, true)
    assert (found["precision"], found["recall"]) == (1 / 3, 1 / 3)
    said[1] = "O B-ORG B-LOC".split()
    found = entity_scores(said, true)
    assert (found["precision"], found["recall"], found["f1"]) == (2 / 4, 2 / 3, 4 / 7)
    assert found["entities"] == 3
    assert found["kinds"]["ORG"] == {
        "precision": 1 / 2, "recall": 1.0, "f1": 2 / 3, "entities": 1,
    }  # fmt: skip
    assert found["kinds"]["LOC"]["f1"] == 0.0
    with pytest.raises(ValueError, match="sentence 0 has 1 tags, predicted are 2"):
        entity_scores([["O", "O"]], [["O"]])


def test_nothing_said_and_nothing_there_is_no_division():
    found = entity_scores([["O"]], [["O"]])
    assert (found["precision"], found["recall"], found["f1"]) == (0.0, 0.0, 0.0)
