"""Rows of images and text: what stands where, and what is to be predicted."""

import dataclasses

import numpy as np
import pytest

from tests.test_knobs import ELSEWHERE, assert_named
from tfm_jax.data.batch import ImageTextBatch
from tfm_jax.data.batches import eval_batches, train_batches
from tfm_jax.data.cache import prepared
from tfm_jax.data.errors import DataError
from tfm_jax.data.prepared import Prepared, digest_of, prepare
from tfm_jax.data.rows import causal
from tfm_jax.data.rows.image_text import (
    KIND,
    SPECIAL,
    Config,
    answer_starts,
    image_text_rows,
)
from tfm_jax.data.sources import scenes
from tfm_jax.data.sources.turns import Example, ImageTexts, Turn
from tfm_jax.data.tokenizers import vocabularies
from tfm_jax.data.tokenizers.vocabularies import train_text_tokenizer
from tfm_jax.workloads import retrieval

FEW = scenes.Config(train=24, valid=6, test=0, texts="both")
CHARACTERS = train_text_tokenizer("character", ["abc ?"], special=SPECIAL)
PIXELS = np.arange(3 * 2 * 2 * 1, dtype=np.uint8).reshape(3, 2, 2, 1)
TURNS = (
    Turn("", "ab", image=False, ends=False),
    Turn("b?", "c"),
    Turn("", "ac"),
)
ONE = Example(TURNS, "caption", ("ac",), (2, 0))


def rows_of(*examples, length=20, **changes):
    cfg = Config(length=length, **changes)
    return image_text_rows(cfg, CHARACTERS, ImageTexts(examples, PIXELS))


def spelled(ids):
    return "".join(CHARACTERS.decode([ids], special=True))


def test_a_row_is_turn_after_turn_and_only_answers_are_to_be_predicted():
    rows, _, report = rows_of(ONE)
    text = "<end>ab<image>b? c<end><image>ac<end>"
    size = int(rows.segments.sum())
    assert spelled(rows.tokens[0, :size]) == text
    assert not any(field[0, size:].any() for field in rows[:2] + rows[4:6])
    targets = rows.weights[0] > 0
    assert spelled(rows.labels[0, targets]) == "ab c<end>ac<end>"
    assert np.array_equal(rows.labels[0, targets], rows.tokens[0, 1:][targets[:-1]])
    assert not rows.labels[0, ~targets].any()
    assert report["targets"] == targets.sum() and report["images"] == 2


def test_images_stand_in_the_order_of_their_markers_and_tokens_count_them():
    rows, _, _ = rows_of(ONE, Example(TURNS[:1], "caption", (), ()))
    assert np.array_equal(rows.images[0], PIXELS[[2, 0]])
    assert not rows.images[1].any() and rows.image_counts.tolist() == [2, 0]
    marker = CHARACTERS.ids_of("<image>")[0]
    size = int(rows.segments[0].sum())
    seen = np.cumsum(rows.tokens == marker, axis=1) * rows.segments
    assert np.array_equal(rows.image_index, seen)
    assert rows.image_index[0, :3].max() == 0 and rows.image_index[0, size - 1] == 2


def test_an_image_of_several_rows_is_kept_once_and_stands_in_each():
    """Such as that of five captions: a batch has the values that an array has."""
    captions = [Example(TURNS[2:], "caption", ("ac",), (1,))] * 5
    rows, *_ = rows_of(*captions, ONE, Example(TURNS[:1], "caption", (), ()))
    assert rows.images.items is PIXELS and rows.images.index.nbytes < 100
    whole = np.zeros((7, 2, *PIXELS.shape[1:]), np.uint8)
    whole[:5, 0], whole[5] = PIXELS[1], PIXELS[[2, 0]]
    copied = rows._replace(images=whole)
    assert rows.images.shape == whole.shape and rows.images.dtype == whole.dtype
    for key in (slice(None), np.array([6, 5, 5]), 5, (slice(3), 0), (5, 1)):
        assert np.array_equal(rows.images[key], whole[key])
    assert digest_of([rows]) == digest_of([copied])
    data = Prepared(None, [rows], [], [], {}, {}, "", {}, None)
    of = dict(batch_tokens=60, total_batches=3, seed=1)
    pairs = (
        train_batches(Config(), data._replace(train=[each]), **of)
        for each in (rows, copied)
    )
    for batch, wanted in zip(*pairs, strict=True):
        assert isinstance(batch.images, np.ndarray)
        assert np.array_equal(batch.images, wanted.images)
        assert np.array_equal(batch.tokens, wanted.tokens)


def test_a_prompt_ends_where_the_last_answer_begins():
    rows, _, _ = rows_of(ONE, Example(TURNS[:2], "color", (), (2,)))
    prompts = [
        spelled(x[:n]) for x, n in zip(rows.tokens, answer_starts(rows), strict=True)
    ]
    assert prompts == ["<end>ab<image>b? c<end><image>", "<end>ab<image>b?"]


def test_special_tokens_may_be_others_or_none():
    """Rows as BERT reads them: the image has no token, and is there all the same."""
    tokenizer = train_text_tokenizer("wordpiece", ["a cat"], vocab=30)
    cfg = Config(length=8, begin="[CLS]", marker="", end="[SEP]")
    example = Example((Turn("", "a cat"),), "caption", ("a cat",), (1,))
    rows, *_ = image_text_rows(cfg, tokenizer, ImageTexts([example], PIXELS))
    text = tokenizer.decode([rows.tokens[0, : rows.segments.sum()]], special=True)
    assert text == ["[CLS] a cat [SEP]"]
    assert rows.image_counts.tolist() == [1]
    assert rows.image_index[0, 1] == 1
    with pytest.raises(DataError, match="no special token '<end>'"):
        image_text_rows(Config(), tokenizer, ImageTexts([example], PIXELS))


def test_long_and_empty_examples_get_what_their_policies_say():
    short = Example(TURNS[2:], "caption", ("ac",), (1,))
    nothing = Example((Turn("a", "", ends=False),), "color", ("",), (1,))
    some = nothing, ONE, short
    rows, examples, report = rows_of(*some, length=6)
    assert examples == [short] and len(rows.tokens) == 1, "examples are those of rows"
    assert report["overlong"] == dict(policy="drop", examples=1)
    assert report["empty"] == dict(policy="drop", examples=1)
    rows, examples, _ = rows_of(*some, length=6, overlong="keep", empty="keep")
    assert examples == [*some] and rows.image_counts.tolist() == [1, 1, 1]
    assert spelled(rows.tokens[1]) == "<end>ab<image>b?"
    for knob in ("overlong", "empty"):
        with pytest.raises(DataError, match=f"data.{knob}=drop leaves them out"):
            rows_of(*some, length=6, **{knob: "error"})
    with pytest.raises(DataError, match="overlong: 13 tokens for a row of 6"):
        rows_of(*some, length=6, overlong="error", empty="keep")
    with pytest.raises(DataError, match="a row has data.length=3"):
        rows_of(*some, length=3)


def data_of(**changes):
    tokenizer = vocabularies.Config(kind="wordpiece", vocab=120, special=SPECIAL)
    return Config(scenes=FEW, **changes), tokenizer


def test_scenes_become_batches_that_are_the_same_on_every_run():
    cfg, tokenizer = data_of(shots=2, length=80)
    data, again = (prepare(KIND, cfg, tokenizer) for _ in range(2))
    assert data.fingerprint == again.fingerprint
    options = dict(batch_tokens=320, total_batches=3, seed=1)
    batches = [*train_batches(cfg, data, **options)]
    for one, other in zip(batches, train_batches(cfg, again, **options), strict=True):
        assert isinstance(one, ImageTextBatch)
        assert one.tokens.shape == (4, 80) and one.images.shape == (4, 3, 32, 32, 3)
        fields = zip(one, other, strict=True)
        assert all(a is b is None or np.array_equal(a, b) for a, b in fields)
    held_out = [*eval_batches(data, "valid", batch_tokens=320)]
    assert sum((x.segments[:, 0] > 0).sum() for x in held_out) == 6
    assert not held_out[-1].image_counts[2:].any()
    assert data.report["train"]["unknown_share"] == 0
    examples = data.examples["valid"]
    assert data.examples.keys() == {"valid"} and len(examples) == 6
    rows = data.valid[0]
    for row, start, example in zip(
        rows.tokens, answer_starts(rows), examples, strict=True
    ):
        (answer,) = data.tokenizer.decode([row[start:][row[start:] > 0]])
        assert (answer,) == example.references


@pytest.mark.parametrize("kind", ["character", "byte_bpe", "wordpiece", "unigram"])
def test_rows_without_their_images_are_what_a_language_model_is_trained_on(kind):
    """Token by token, with the same tokenizer."""
    section = vocabularies.Config(kind=kind, vocab=300, special=SPECIAL)
    rows = prepare(KIND, Config(scenes=FEW, length=99), section)
    options = dict(source="scenes", scenes=FEW, length=99, layout="single")
    text = prepare(causal.KIND, causal.Config(separator="<end>", **options), section)
    assert text.tokenizer.fingerprint == rows.tokenizer.fingerprint
    marker, end = text.tokenizer.ids_of(*SPECIAL)
    with_images, without = rows.train[0], text.train[0]
    assert len(with_images.tokens) == len(without.tokens)
    for ours, real, theirs, there in zip(
        with_images.tokens, with_images.segments,
        without.tokens, without.segments, strict=True,
    ):  # fmt: skip
        ours = ours[(real > 0) & (ours != marker)].tolist()
        assert ours == [*theirs[there > 0], end]


def test_rows_and_examples_are_found_again_in_the_cache(tmp_path):
    cfg, tokenizer = data_of()
    first, second = (
        prepared(KIND, cfg, tokenizer, tmp_path / "cache") for _ in range(2)
    )
    assert second.examples == first.examples
    assert second.fingerprint == first.fingerprint
    (rows,), (kept,) = first.train, second.train
    assert not isinstance(rows.images.items.base, np.memmap)
    assert isinstance(kept.images.items.base, np.memmap), "mapped into memory"
    assert kept.images.dtype == np.uint8
    assert np.array_equal(rows.images[:], kept.images[:])
    other = dataclasses.replace(cfg, scenes=dataclasses.replace(FEW, seed=1))
    third = prepared(KIND, other, tokenizer, tmp_path / "cache")
    assert third.fingerprint != first.fingerprint


_LISTS = "tests/data/sources/test_image_text.py::"
_SCENES = "tests/data/sources/test_scenes.py::"
_ROWS = "tests/data/rows/test_image_text.py::"
_TFDS = (
    "tests/data/sources/test_tfds_image_text.py::"
    "test_captions_of_tfds_are_read_without_tensorflow"
)
_IMAGES = ("image_size", "fit", "color", "train_files", "valid_files", "test_files")
_STREAM = "tests/train/test_run_knobs.py::"
PROVED = {  # knob -> the test that would fail if it were dead
    **dict.fromkeys(_IMAGES, f"{_LISTS}test_images_become_what_the_section_says"),
    "broken": f"{_LISTS}"
    "test_a_missing_or_broken_image_is_an_error_or_leaves_out_its_examples",
    **dict.fromkeys(
        ("malformed", "markers"),
        f"{_LISTS}test_a_line_that_is_wrong_is_an_error_with_its_place_or_dropped",
    ),
    "invalid_utf8": f"{_LISTS}test_bytes_that_are_no_utf8_are_an_error_unless_replaced",
    **dict.fromkeys(("source", "tfds_feature", "tfds_train"), _TFDS),
    **dict.fromkeys(("tfds_name", "tfds_data_dir"), _TFDS),
    **dict.fromkeys(("tfds_valid", "tfds_test"), _TFDS),
    "scenes": f"{_SCENES}test_every_knob_changes_what_there_is",
    "shots": f"{_LISTS}test_shots_are_other_examples_of_one_kind_with_other_images",
    "length": f"{_ROWS}test_long_and_empty_examples_get_what_their_policies_say",
    **dict.fromkeys(
        ("begin", "marker", "end"),
        f"{_ROWS}test_special_tokens_may_be_others_or_none",
    ),
    **dict.fromkeys(
        ("empty", "overlong"),
        f"{_ROWS}test_long_and_empty_examples_get_what_their_policies_say",
    ),
    "shuffle": f"{_STREAM}test_every_knob_of_the_data_changes_what_reaches_the_model",
    **{name: ELSEWHERE[f"data.{name}"] for name in ("prefetch", "timeout_seconds")},
    **dict.fromkeys(
        ("objectives", "negatives"),
        "tests/workloads/test_retrieval.py::"
        "test_objectives_and_negatives_change_the_loss",
    ),
}


def test_every_knob_is_proved_somewhere():
    fields = {field.name for field in dataclasses.fields(retrieval.Config)}
    assert fields == {*PROVED}, "say here what these change"
    for knob, place in PROVED.items():
        assert_named(knob, place)
