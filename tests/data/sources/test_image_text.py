"""Images and text from files made here: lists and tar files."""

import dataclasses
import io
import json
import os
import re
import tarfile

import numpy as np
import pytest
from PIL import Image

from tfm_jax.data.cache import prepared
from tfm_jax.data.errors import DataError
from tfm_jax.data.rows.image_text import KIND, SPECIAL, Config
from tfm_jax.data.sources import image_text
from tfm_jax.data.sources.image_text import load_examples
from tfm_jax.data.sources.turns import Turn
from tfm_jax.data.tokenizers import vocabularies

NOISE = np.random.default_rng(0).integers(256, size=(6, 5, 4, 3), dtype=np.uint8)
NAMES = "abcdef"


def coded(number):
    stream = io.BytesIO()
    Image.fromarray(NOISE[number]).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "photos").mkdir()
    for number, name in enumerate(NAMES):
        (tmp_path / "photos" / f"{name}.png").write_bytes(coded(number))
    return tmp_path


def written(path, *lines):
    lines = [x if isinstance(x, str) else json.dumps(x) for x in lines]
    path.write_text("".join(f"{line}\n" for line in lines))
    return str(path)


def read(*files, split="train", **changes):
    files = {f"{split}_files": files}
    return load_examples(Config(source="files", **files, **changes), split)


def tarred(path, **members):
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name.replace("_", "."))
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return str(path)


def test_lists_of_any_format_give_the_same_images_and_captions(folder):
    captions = [("b", "a cat"), ("a", "two dogs"), ("b", "cats")]
    tsv = [f"photos/{name}.png\t{text}" for name, text in captions]
    jsonl = [dict(image=f"photos/{name}.png", text=text) for name, text in captions]
    loaded, _ = read(written(folder / "a.tsv", *tsv))
    assert [x.turns for x in loaded.examples] == [(Turn("", t),) for _, t in captions]
    assert np.array_equal(loaded.pixels, NOISE[[1, 0]]), "each once"
    assert [x.images for x in loaded.examples] == [(0,), (1,), (0,)]
    cats = ("a cat", "cats")
    assert [x.references for x in loaded.examples] == [cats, ("two dogs",), cats]
    again, _ = read(written(folder / "b.jsonl", *jsonl))
    assert again.examples == loaded.examples
    assert np.array_equal(again.pixels, loaded.pixels)
    shard = tarred(
        folder / "c.tar", x_png=coded(1), x_txt=b"a cat", y_png=coded(0),
        y_json=b'{"text": "two dogs", "url": 3}', z_txt=b"no image",
    )  # fmt: skip
    packed, _ = read(shard)
    assert [x.turns for x in packed.examples] == [x.turns for x in loaded.examples[:2]]
    assert np.array_equal(packed.pixels, NOISE[[1, 0]])


def test_a_text_has_its_images_where_its_markers_stand(folder):
    paths = [f"photos/{name}.png" for name in "cab"]
    text = "First <image> a cat <image>two dogs<image> "
    expected = (
        Turn("", "First", image=False),
        *(Turn("", part) for part in ("a cat", "two dogs", "")),
    )
    for path in (
        written(folder / "a.jsonl", dict(images=paths, text=text)),
        written(folder / "a.tsv", "\t".join([*paths, text])),
    ):
        loaded, _ = read(path)
        (example,) = loaded.examples
        assert example.turns == expected
        assert np.array_equal(loaded.pixels[list(example.images)], NOISE[[2, 0, 1]])
    loaded, _ = read(written(folder / "b.jsonl", dict(text="no image")))
    assert loaded.examples[0].turns == (Turn("", "no image", image=False),)


def test_questions_have_prompts_and_answers_that_are_right(folder):
    asked = dict(image="photos/a.png", prompt="who ?", answer=["a cat", "tom"])
    turns = [dict(prompt="who ?", answer="x"), dict(image=False, answer="y")]
    loaded, _ = read(
        written(
            folder / "a.jsonl",
            asked,
            asked | dict(kind="name", answer="tom"),
            dict(images=["photos/b.png"], turns=turns),
        )  # fmt: skip
    )
    one, other, both = loaded.examples
    assert one.turns == (Turn("who ?", "a cat"),) and one.kind == "question"
    assert one.references == ("a cat", "tom")
    assert other.kind == "name" and other.references == ("tom",)
    assert both.turns == (Turn("who ?", "x"), Turn("", "y", image=False))


def test_folders_hold_shards_in_the_order_of_their_names(folder):
    for number in (1, 0):
        (folder / f"{number}").mkdir()
        written(folder / f"{number}" / "x.tsv", f"../photos/a.png\ttext {number}")
    loaded, report = read(str(folder))
    assert [x.turns[0].answer for x in loaded.examples] == ["text 0", "text 1"]
    assert len(report["files"]) == 2
    with pytest.raises(DataError, match="photos is no list: name files of .tsv"):
        read(str(folder / "photos"))
    with pytest.raises(DataError, match=r"data.train_files is empty; name .tsv"):
        read()


BAD = {
    "markers": (
        dict(images=["photos/a.png"], text="<image> and <image>"),
        "1 images, and <image> for 2 of them",
    ),
    "no marker": (
        dict(images=["photos/a.png", "photos/b.png"], text="two"),
        "2 images, and <image> for 1 of them",
    ),
    "malformed": (dict(image="photos/a.png"), "it lacks prompt and answer, as text"),
    "json": ("{", "is not JSON"),
    "paths": (dict(images=[3], text="a"), "its images are no list of paths"),
    "turns": (dict(turns=[]), "it has no turn"),
    "marker in a prompt": (
        dict(image="photos/a.png", prompt="<image> who ?", answer="a cat"),
        "<image> in a prompt or answer: its image stands in front",
    ),
    "image of a turn": (
        dict(images=[], turns=[dict(answer="a", image="false")]),
        "image of a turn must be true or false",
    ),
    "kind": (
        dict(image="photos/a.png", text="a cat", kind=None),
        "kind=None is no name of what is asked",
    ),
    "half a character": (dict(image="photos/a.png", text="\ud800"), "is not JSON"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_line_that_is_wrong_is_an_error_with_its_place_or_dropped(folder, name):
    line, message = BAD[name]
    good = dict(image="photos/a.png", text="a cat")
    path = written(folder / "a.jsonl", good, line, good)
    with pytest.raises(DataError, match=rf"a\.jsonl: line 2: .*{re.escape(message)}"):
        read(path)
    loaded, report = read(path, malformed="drop", markers="drop")
    assert len(loaded.examples) == 2
    dropped = [report[knob]["lines"] for knob in ("malformed", "markers")]
    assert dropped == ([0, 1] if "marker" in name else [1, 0])


def test_a_missing_or_broken_image_is_an_error_or_leaves_out_its_examples(folder):
    (folder / "photos" / "b.png").write_bytes(coded(1)[:40])
    lines = [f"photos/{name}.png\t{name}" for name in ("a", "b", "none", "b")]
    path = written(folder / "a.tsv", *lines)
    with pytest.raises(DataError, match=r"b\.png is broken"):
        read(path)
    loaded, report = read(path, broken="drop")
    assert [x.turns[0].answer for x in loaded.examples] == ["a"]
    assert report["broken"] == dict(policy="drop", images=2)
    assert report["with_broken_image"] == 3 and report["images"] == 1
    strange = [dict(image=x, text="x") for x in ("photos/a\0.png", "photos/a.png")]
    path = written(folder / "a.jsonl", *strange)
    loaded, _ = read(path, broken="drop")
    assert len(loaded.examples) == 1
    cfg = Config(source="files", train_files=(path,), broken="drop")
    assert image_text.content(cfg), "a name that no file can have does not change"


def test_a_tar_has_each_file_once_under_its_whole_extension(folder):
    """``a.mask.png`` is another file than ``a.png``, as WebDataset has it."""
    members = [("a.png", coded(0)), ("a.mask.png", coded(1)), ("a.txt", b"a cat")]

    def shard(*members):
        with tarfile.open(folder / "a.tar", "w") as tar:
            for name, data in members:
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        return str(folder / "a.tar")

    loaded, _ = read(shard(*members))
    assert np.array_equal(loaded.pixels, NOISE[[0]])
    with pytest.raises(DataError, match="has a file of a twice"):
        read(shard(*members, ("a.txt", b"two cats")))


def test_bytes_that_are_no_utf8_are_an_error_unless_replaced(folder):
    """``invalid_utf8`` of lists; a column too few is malformed."""
    (folder / "a.tsv").write_bytes(b"photos/a.png\ta c\xffat\nno column\n")
    with pytest.raises(DataError, match="line 1"):
        read(str(folder / "a.tsv"))
    loaded, report = read(
        str(folder / "a.tsv"), invalid_utf8="replace", malformed="drop"
    )
    assert loaded.examples[0].turns[0].answer == "a c\ufffdat"
    assert report["malformed"]["lines"] == 1


def test_shots_are_other_examples_of_one_kind_with_other_images(folder):
    lines = [dict(image=f"photos/{name}.png", text=name) for name in NAMES]
    lines += [x | dict(prompt="?", answer=x["text"]) for x in lines]
    for line in lines[len(NAMES) :]:
        del line["text"]
    path = written(folder / "a.jsonl", *lines)
    alone, _ = read(path)
    after, _ = read(path, shots=3)
    for one, other in zip(alone.examples, after.examples, strict=True):
        assert other.turns[-1:] == one.turns and other.images[-1:] == one.images
        assert len(other.turns) == len({*other.images}) == 4
        assert len({turn.prompt for turn in other.turns}) == 1
    assert len({x.images for x in after.examples}) > 6, "drawn for each"
    assert read(path, shots=3)[0].examples == after.examples


def test_rows_of_files_are_kept_until_a_list_or_an_image_changes(folder):
    path = written(folder / "a.tsv", *(f"photos/{x}.png\t{x} cat" for x in "ab"))
    cfg = Config(source="files", train_files=(path,), image_size=(4,), length=20)
    tokenizer = vocabularies.Config(kind="byte", special=SPECIAL)

    def fingerprint():
        data = prepared(KIND, cfg, tokenizer, folder / "cache")
        kept = isinstance(data.train[0].images.items.base, np.memmap)
        return data.fingerprint, kept

    first, again = fingerprint(), fingerprint()
    assert first[0] == again[0] and not first[1] and again[1]
    photo = folder / "photos" / "a.png"
    photo.write_bytes(coded(3))
    os.utime(photo, ns=(1, 1))
    changed = fingerprint()
    assert changed[0] != first[0] and not changed[1]
    assert fingerprint()[1]


CHANGED = {
    "image_size": (3,),
    "fit": dict(fit="stretch", image_size=(3,)),
    "color": "grey",
    "valid_files": ("a.tsv",),
    "test_files": ("a.tsv",),
}


def test_images_become_what_the_section_says(folder, monkeypatch):
    monkeypatch.chdir(folder)
    written(folder / "a.tsv", "photos/a.png\ta cat")
    base = Config(source="files", train_files=("a.tsv",))

    def everything(cfg):
        loaded = [load_examples(cfg, x)[0] for x in ("train", "valid", "test")]
        return [(x.examples, x.pixels.tobytes()) for x in loaded]

    for name, value in CHANGED.items():
        changes = value if isinstance(value, dict) else {name: value}
        others = {k: v for k, v in changes.items() if k != name}
        usual = everything(dataclasses.replace(base, **others))
        assert everything(dataclasses.replace(base, **changes)) != usual, name
