"""Images and text: rendered scenes, lists of files, TFDS."""

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfm_jax.data.policies import invalid_utf8_knob
from tfm_jax.data.sources import image_lists, scenes, tfds
from tfm_jax.data.sources.image_lists import Record
from tfm_jax.data.sources.images import decoded
from tfm_jax.data.sources.images.listed import Listed, files_below, stamps
from tfm_jax.data.sources.turns import Example, ImageTexts, Turn
from tfm_jax.data.tokenizers.normalize import decode
from tfm_jax.data.watchdog import each
from tfm_jax.knobs import check_numbers, knob

_Scenes = scenes.Config  # a field hides the module
_SCENES = scenes.KNOBS
_TOPIC = "object_detection"  # of TFDS, where coco_captions is


def _scenes(cfg, split):
    return scenes.load(cfg.scenes, split, cfg.shots)


def _files(cfg, split):
    records, report = image_lists.read(cfg, split)
    return _decoded(cfg, split, records, report, image_lists.image_bytes)


def _tfds(cfg, split):
    """A record for each caption of an image; all of them are its references."""
    wanted = getattr(cfg, f"tfds_{split}")
    if not wanted:
        return _decoded(cfg, split, [], {"tfds": cfg.tfds_name}, None)
    features = ("image", cfg.tfds_feature)
    examples, builder = tfds.open_split(cfg, _TOPIC, split, features, raw=("image",))
    records, replaced = [], 0
    for number, one in enumerate(each(examples, cfg.tfds_name)):
        for text in _captions(one[cfg.tfds_feature]):
            where = f"{cfg.tfds_name} {wanted}: example {number}"
            text, wrong = decode(text, cfg.invalid_utf8, where)
            replaced += wrong
            records.append(Record((number,), (Turn("", text.strip()),), "caption"))
    report = {"tfds": builder.info.full_name, "split": wanted}
    report |= {"invalid_utf8_lines": replaced}
    return _decoded(cfg, split, records, report, lambda n: examples[n]["image"])


def _captions(value):
    """Bytes, of a text, of a sequence of them, or of objects with a ``text``."""
    if isinstance(value, bytes):
        return [value]
    if isinstance(value, dict):
        return _captions(value["text"])
    return [text for one in value for text in _captions(one)]


def _decoded(cfg, split, records, report, read):
    """Examples of records, those with a broken image left out."""
    items = [*dict.fromkeys(item for one in records for item in one.images)]
    pixels = np.zeros((0, 1, 1, 1), np.uint8)
    keep = np.zeros(0, bool)
    if items:
        origin = f"{cfg.source} {{}}".format if isinstance(items[0], int) else str
        listed = Listed(items, (), lambda n: origin(items[n]), {}, read=read)
        pixels, keep, broken = decoded.pixels_of(cfg, listed)
        report |= broken
    there = [item for item, stays in zip(items, keep, strict=True) if stays]
    numbers = {item: number for number, item in enumerate(there)}
    kept = [one for one in records if all(item in numbers for item in one.images)]
    captions = defaultdict(list)
    for one in kept:
        if one.kind == "caption":
            captions[one.images].append(one.turns[-1].answer)
    examples = [
        Example(
            one.turns,
            one.kind,
            one.references or tuple(captions.get(one.images, [one.turns[-1].answer])),
            tuple(numbers[item] for item in one.images),
        )
        for one in kept
    ]
    examples = _after_shots(examples, cfg.shots, scenes.SPLITS.index(split))
    report |= {"with_broken_image": len(records) - len(kept), "images": len(pixels)}
    return ImageTexts(examples, pixels), report


def _after_shots(examples: Sequence[Example], shots: int, split: int) -> list[Example]:
    """Each example behind ``shots`` others of its kind and split, drawn for it.

    Deviates: Flamingo (section 2.5) draws them from the training split, which one that
    evaluates may not have.
    """
    if not shots:
        return [*examples]
    of_kind = defaultdict(list)
    for number, example in enumerate(examples):
        of_kind[example.kind].append(number)
    after = []
    for number, example in enumerate(examples):
        raw = np.random.Philox(key=[split, number]).random_raw(64 + 16 * shots)
        pool = of_kind[example.kind]
        drawn: dict[int, Example] = {}
        for word in raw.tolist():
            other = pool[word % len(pool)]
            if examples[other].images != example.images and len(drawn) < shots:
                drawn[other] = examples[other]
        some = [*drawn.values(), example]
        turns = tuple(turn for one in some for turn in one.turns)
        images = tuple(image for one in some for image in one.images)
        after.append(example._replace(turns=turns, images=images))
    return after


SOURCES: dict[str, Callable] = {  # name -> load(cfg, split) -> (ImageTexts, report)
    "scenes": _scenes,
    "files": _files,
    "tfds": _tfds,
}


@dataclasses.dataclass(frozen=True)
class Config(decoded.Config):
    """Where images and text come from."""

    ROLE = "training"

    source: str = knob(
        "scenes",
        "where they come from; scenes: rendered; files: lists of paths and text",
        choices=SOURCES,
    )
    shots: int = knob(
        0, "turns of other images in front of the last one", low=0, high=1024
    )
    scenes: _Scenes = _Scenes()
    train_files: tuple[str, ...] = knob(
        (), "source=files: .tsv, .jsonl or .tar, or folders of them"
    )
    valid_files: tuple[str, ...] = knob((), "of the validation split; (): absent")
    test_files: tuple[str, ...] = knob((), "of the test split; (): absent")
    tfds_name: str = tfds.name_knob("coco_captions")
    tfds_feature: str = knob("captions", "its feature with one text or several")
    tfds_data_dir: str = tfds.data_dir_knob()
    tfds_train: str = tfds.train_knob()
    tfds_valid: str = knob("val", 'its validation split; "": absent')
    tfds_test: str = knob("test", 'its test split; "": absent')
    invalid_utf8: str = invalid_utf8_knob()
    malformed: str = knob(
        "error",
        "what a line gets that has no image and text",
        choices=("drop", "error"),
    )
    markers: str = knob(
        "error",
        "what a text gets with more or fewer <image> than images",
        choices=("drop", "error"),
    )

    READ_WITH = {
        ("source", ("scenes",)): _SCENES,
        ("source", ("files",)): (
            "train_files",
            "valid_files",
            "test_files",
            "malformed",
            "markers",
        ),
        ("source", ("tfds",)): (*tfds.KNOBS, "tfds_feature"),
        ("source", ("files", "tfds")): (
            "image_size",
            "fit",
            "color",
            "broken",
            "invalid_utf8",
        ),
    }

    def __post_init__(self):
        super().__post_init__()
        check_numbers(self, "data")


def load_examples(
    cfg: Any, split: str, names: Any = None
) -> tuple[ImageTexts, dict[str, Any]]:
    """The examples of one split: (`ImageTexts`, report of what was read).

    Raises: DataError if the data is absent or malformed.
    """
    del names  # there are no labels
    examples, report = SOURCES[cfg.source](cfg, split)
    return examples, {"source": cfg.source, **report, "read": len(examples.examples)}


def content(cfg: Any) -> Any:
    """Plain JSON that changes with what a source holds; None: the section says it."""
    if cfg.source == "files":
        return [*image_lists.content(cfg)]
    if cfg.source == "tfds":
        _, builder = tfds.open_split(cfg, _TOPIC, "train", ("image", cfg.tfds_feature))
        folder = Path(builder.data_path)
        return stamps(folder, files_below(folder))
    return None
