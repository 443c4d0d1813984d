"""Scenes: pictures, captions and questions tell of the same objects."""

import dataclasses
import itertools

import numpy as np
import pytest

from tfm_jax.data.sources import documents, scenes
from tfm_jax.data.sources.images import labelled
from tfm_jax.data.sources.images.labelled import load_images
from tfm_jax.data.sources.scenes import COLORS, PLACES, QUESTIONS, SHAPES, Config
from tfm_jax.data.tokenizers.vocabularies import train_text_tokenizer

FEW = Config(train=40, valid=7, test=0)


def loaded(split="train", shots=0, cfg=FEW, **changes):
    return scenes.load(dataclasses.replace(cfg, **changes), split, shots)[0]


def answers(examples):
    return [example.turns[-1].answer for example in examples]


def test_every_pixel_of_an_object_has_the_colour_place_and_shape_of_its_caption():
    found = loaded(train=100)
    templates = dict(zip(SHAPES, scenes._masks(12)[0], strict=True))
    for (n,), caption in zip(
        (x.images for x in found.examples), answers(found.examples), strict=True
    ):
        seen = np.zeros((32, 32), bool)
        for described in caption.split(" and "):
            _, color, shape, _, _, *place = described.split()
            row, column = divmod(PLACES.index(" ".join(place)), 2)
            corner = (
                slice(16 * row, 16 * row + 16),
                slice(16 * column, 16 * column + 16),
            )
            part = found.pixels[n][corner].astype(float)
            is_object = part.max(-1) > 31
            seen[corner] = is_object
            ys, xs = np.nonzero(is_object)
            mask = templates[shape]
            box = mask[mask.any(1)][:, mask.any(0)]
            assert np.array_equal(is_object[ys.min() : ys.max() + 1,
                                            xs.min() : xs.max() + 1], box)  # fmt: skip
            mean = part[is_object].mean(0)
            distance = {
                name: np.abs(mean / mean.max() - np.array(rgb) / max(rgb)).max()
                for name, rgb in COLORS.items()
            }
            assert min(distance, key=distance.get) == color
        assert ((found.pixels[n].max(-1) > 31) == seen).all(), "nothing else is there"


@pytest.mark.parametrize("diagonal", range(6))
def test_each_colour_and_each_shape_is_held_out_in_one_pair(diagonal):
    pairs = {
        name: {tuple(x) for x in scenes.pairs_of(Config(pairs=name, diagonal=diagonal))}
        for name in scenes.PAIRS
    }
    assert pairs["seen"] | pairs["unseen"] == pairs["all"]
    assert not pairs["seen"] & pairs["unseen"]
    colors, shapes = zip(*pairs["unseen"], strict=True)
    assert sorted(colors) == sorted(shapes) == list(range(6))
    assert (0, diagonal) in pairs["unseen"]


def test_scenes_have_the_pairs_that_are_asked_for_and_so_many_captions():
    """240 captions of unseen pairs: 4 places x 6, and 6 pairs of places x 36."""
    found = {*scenes.texts(Config(pairs="unseen", train=4_000), "train")}
    assert len(found) == 240
    names = {f"{c} {s}" for c, s in zip(COLORS, SHAPES, strict=True)}
    described = [x for caption in found for x in caption.split(" and ")]
    assert {" ".join(x.split()[1:3]) for x in described} == names
    seen = scenes.texts(Config(train=400), "train")
    assert not any(name in caption for caption in seen for name in names)


def test_an_example_depends_on_seed_split_and_number_alone():
    few, more = loaded(), loaded(train=60)
    assert more.examples[:40] == few.examples
    assert np.array_equal(more.pixels[:40], few.pixels)
    other = loaded(seed=1), loaded("valid")
    assert all(few.examples[:7] != x.examples[:7] for x in other)
    assert len(loaded("valid").examples) == 7 and not loaded("test").examples
    asked = loaded(texts="questions")
    assert np.array_equal(asked.pixels, few.pixels), "whatever is said of them"


def test_pixels_are_the_words_of_philox_on_every_machine():
    """Behind 2 words of the example and 24 of the scene, each is noise of 8 bytes."""
    found = loaded("valid", seed=5)
    assert found.pixels.dtype == np.uint8
    for number, pixels in enumerate(found.pixels):
        raw = np.random.Philox(key=[5, (1 << 48) + number]).random_raw(26 + 384)[26:]
        noise = [(int(word) >> 8 * byte) % 32 for word in raw for byte in range(8)]
        ground = pixels.ravel() < 32
        assert ground.sum() > 2_000
        assert np.array_equal(pixels.ravel()[ground], np.array(noise)[ground])


def test_the_last_scene_is_the_same_after_any_number_of_shots():
    alone, after = (loaded(shots=k, texts="both") for k in (0, 3))
    for one, other in zip(alone.examples, after.examples, strict=True):
        assert other.turns[-1:] == one.turns and other.kind == one.kind
        assert len(other.turns) == 4
        last = after.pixels[other.images[-1]]
        assert np.array_equal(last, alone.pixels[one.images[0]])
    assert sorted(n for x in after.examples for n in x.images) == list(range(160))


def test_questions_are_answered_as_the_caption_says():
    """And ``texts`` and ``questions`` choose what is asked."""
    captions = answers(loaded(train=120, objects=4, sizes=2).examples)
    for kind in QUESTIONS:
        if kind == "relation":
            continue
        asked = loaded(
            train=120, objects=4, sizes=2, texts="questions", questions=(kind,)
        )
        for caption, example in zip(captions, asked.examples, strict=True):
            assert example.kind == kind and example.references == (
                example.turns[-1].answer,
            )
            objects = {}
            for described in caption.split(" and "):
                name, _, place = described.partition(" at the ")
                objects[place] = name
            (turn,) = example.turns
            if kind == "count":
                assert turn.answer == scenes.NUMBERS[len(objects) - 1]
                continue
            place = turn.prompt.removesuffix(" ?").rpartition(" the ")[2]
            _, size, color, shape = objects[place].split()
            expected = dict(size=size, color=color, shape=shape, object=objects[place])
            assert turn.answer == expected[kind]
    both = {example.kind for example in loaded(texts="both").examples}
    assert both == {"caption", "object", "color", "shape", "count"}


def test_a_relation_holds_between_one_thing_and_another_in_any_arrangement():
    """All sets of places, with objects that are alike or not."""
    for places in itertools.chain.from_iterable(
        itertools.combinations(range(4), n) for n in range(1, 5)
    ):
        for shapes in itertools.product([*SHAPES][: len(places)], repeat=len(places)):
            things = [
                scenes.Thing(place, "red", shape, "")
                for place, shape in zip(places, shapes, strict=True)
            ]
            question, answer = QUESTIONS["relation"](things, 5)
            relation = next(x for x in scenes.RELATIONS if f" {x} " in question)
            shape = question.split()[-2]
            there = {
                a.name
                for a in things
                for b in things
                if b.shape == shape and scenes.RELATIONS[relation](a.place, b.place)
            }
            assert there == {*answer.split(" and ")} - {"nothing"}


def test_renamed_colours_are_a_code_of_each_example_that_its_turns_share():
    """Chance is one in six, and other words, shapes and pictures stay what they are."""
    plain = loaded(shots=8, train=120)
    codes = []
    renamed = loaded(shots=8, train=120, renamed="colors")
    assert np.array_equal(plain.pixels, renamed.pixels)
    for before, after in zip(plain.examples, renamed.examples, strict=True):
        words = [
            pair
            for a, b in zip(before.turns, after.turns, strict=True)
            for pair in zip(a.answer.split(), b.answer.split(), strict=True)
        ]
        code = {a: b for a, b in words if a != b}
        assert all(code.get(a, a) == b for a, b in words)
        assert code.keys() <= COLORS.keys()
        assert len({*code.values()}) == len(code) and {*code.values()} <= {
            *scenes.NONSENSE
        }
        codes.append(code)
    red = [code["red"] for code in codes if "red" in code]
    assert len({*red}) == 6 and max(map(red.count, red)) < 0.35 * len(red)
    assert loaded(renamed="shapes").examples[0] != loaded().examples[0]


def test_one_tokenizer_knows_whatever_is_said_of_scenes():
    """Also words that these scenes do not say, each of them one token of WordPiece."""
    said = set()
    for renamed in scenes.RENAMED:
        asked = dict(objects=4, sizes=2, questions=tuple(QUESTIONS), train=300)
        cfg = Config(texts="both", renamed=renamed, **asked)
        said |= {word for text in scenes.texts(cfg, "train") for word in text.split()}
    assert len(said) > 40
    assert said <= {word for text in scenes.language() for word in text.split()}
    tokenizer = train_text_tokenizer("wordpiece", scenes.language())
    assert {len(ids) for ids in tokenizer.encode(sorted(said))} == {1}
    assert tokenizer.unknown not in np.concatenate(tokenizer.encode(sorted(said)))


CHANGED = {
    "scenes.seed": 1,
    "scenes.size": 16,
    "scenes.train": 3,
    "scenes.valid": 3,
    "scenes.test": 3,
    "scenes.pairs": "all",
    "scenes.diagonal": 2,
    "scenes.texts": "questions",
    "scenes.questions": ("count",),
    "scenes.objects": 3,
    "scenes.sizes": 2,
    "scenes.renamed": "colors",
}


def test_every_knob_changes_what_there_is():
    def everything(cfg):
        found = [scenes.load(cfg, split)[0] for split in scenes.SPLITS]
        return [(x.examples, x.pixels.shape, x.pixels.tobytes()) for x in found]

    base = dataclasses.replace(FEW, train=9, texts="both")
    usual = everything(base)
    assert CHANGED.keys() == {*scenes.KNOBS}
    for knob, value in CHANGED.items():
        changed = {knob.removeprefix("scenes."): value}
        assert everything(dataclasses.replace(base, **changed)) != usual, knob


def test_documents_say_what_is_said_of_scenes():
    cfg = documents.Config(
        source="scenes", scenes=dataclasses.replace(FEW, texts="both")
    )
    for split in ("train", "valid"):
        found, report = documents.load_documents(cfg, split)
        said = [example.turns[0] for example in loaded(split, texts="both").examples]
        assert found.texts == [turn.text for turn in said]
        assert report["kept"] == len(said)
    assert any(" ? " in text for text in found.texts), "a question and its answer"
    assert not documents.load_documents(cfg, "test")[0].texts


def test_a_scene_of_one_object_has_its_colour_and_shape_as_class():
    few = scenes.OneObject(train=40, valid=7, test=0, pairs="unseen")
    images, report = load_images(labelled.Config(source="scenes", scenes=few), "train")
    assert report["labels"] == [f"{c} {s}" for c in COLORS for s in SHAPES]
    assert {images.names[x] for x in images.labels} <= {
        f"{c} {s}" for c, s in zip(COLORS, SHAPES, strict=True)
    }
    same = loaded(train=40, objects=1, pairs="unseen")
    assert np.array_equal(images.pixels, same.pixels)
    said = [x.split(" at ")[0] for x in answers(same.examples)]
    assert said == [f"a {images.names[x]}" for x in images.labels]
    cfg = labelled.Config(source="scenes", scenes=few)
    assert len(load_images(cfg, "valid")[0].labels) == 7
    assert not len(load_images(cfg, "test")[0].labels)


@pytest.mark.parametrize("size", [16, 33])
def test_scenes_have_the_size_that_is_asked_for(size):
    found = loaded(size=size, objects=4)
    assert found.pixels.shape[1:] == (size, size, 3)
    edge = found.pixels[:, -1].max()
    assert found.pixels.max() > 200 and edge < 256


@pytest.mark.parametrize("questions", [(), ("age",), ("size",)])
def test_a_question_that_there_is_not_is_refused(questions):
    with pytest.raises(ValueError, match=r"data.scenes.questions=.*choose some from"):
        Config(questions=questions)
