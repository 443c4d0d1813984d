"""Lists of images and text: tab-separated, JSON lines, tar files of WebDataset."""

import itertools
import json
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfm_jax import bounded_json
from tfm_jax.data.errors import DataError
from tfm_jax.data.policies import sift
from tfm_jax.data.sources.images.listed import SUFFIXES, files_below
from tfm_jax.data.sources.text_files import digest, read_lines
from tfm_jax.data.sources.turns import Turn
from tfm_jax.data.tokenizers.normalize import decode
from tfm_jax.data.watchdog import awaited, each

MARKER = "<image>"  # how texts say where an image stands
_MOST_TEXT = 2**20  # bytes of text beside an image in a tar file


class Member(NamedTuple):
    """A file inside a tar file."""

    tar: Path
    name: str
    start: int
    size: int

    def __str__(self):
        return f"{self.tar}: {self.name}"


class Record(NamedTuple):
    """What a list says of one example."""

    images: tuple[Any, ...]  # in the order of their markers; what ``read`` takes
    turns: tuple[Turn, ...]
    kind: str
    references: tuple[str, ...] = ()  # (): what the captions of the same images say


class _Wrong(ValueError):
    """A record that is none. Args: the policy that says what it gets; why."""


def read(cfg: Any, split: str) -> tuple[list[Record], dict[str, Any]]:
    """The records of one split: (records, report); none if it has no files.

    A line of a ``.tsv`` is paths of images and, in its last column, a text; one of a
    ``.jsonl`` an object of ``image`` or ``images`` and ``text``, ``prompt`` and
    ``answer``, or ``turns``. Paths begin at the folder of the list. A ``.tar`` has
    images, each with a text in ``.txt`` or ``.json`` of the same name. Texts have
    ``<image>`` for each image, or none of it for one in front; prompts have none.

    Raises: DataError for a missing or damaged file, and if a policy says so.
    """
    records, files, wrong = [], {}, dict.fromkeys(("malformed", "markers"), 0)
    for path in shards(cfg, split):
        read_list = FORMATS[_suffix(path)]
        entries, files[str(path)] = read_list(cfg, path, f"data.{split}_files")
        kept, report = _sifted(cfg, entries)
        records += kept
        for knob in wrong:
            wrong[knob] += report[knob]["lines"]
    counts = {k: {"policy": getattr(cfg, k), "lines": n} for k, n in wrong.items()}
    return records, {"files": files, **counts}


def shards(cfg: Any, split: str) -> list[Path]:
    """The lists of one split; of a folder all in it, in the order of names.

    Raises: DataError for a file of another kind, or a folder without one.
    """
    knob, paths = f"data.{split}_files", []
    if split == "train" and not cfg.train_files:
        raise DataError(f"data.train_files is empty; name {' or '.join(FORMATS)} files")
    for path in map(Path, getattr(cfg, knob.removeprefix("data."))):
        some = [path]
        with awaited(path):
            if path.is_dir():
                some = [x for x in files_below(path) if _suffix(x) in FORMATS]
        if not some or _suffix(path) not in FORMATS and some == [path]:
            raise DataError(
                f"{knob}={path} is no list: name files of {', '.join(FORMATS)}, or "
                "folders of them"
            )
        paths += some
    return paths


def image_bytes(item: Path | Member) -> Path | bytes:
    """What an image is decoded from."""
    if isinstance(item, Path):
        return item
    with open(item.tar, "rb") as file:
        file.seek(item.start)
        return file.read(item.size)


def _suffix(path):
    return path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix


def _sifted(cfg, entries):
    """Args: entries: (where it is from, record or `_Wrong`) pairs."""
    bad = {
        knob: [isinstance(x, _Wrong) and x.args[0] == knob for _, x in entries]
        for knob in ("malformed", "markers")
    }
    keep, report = sift(
        cfg,
        bad,
        "line",
        clause=lambda _, n: f"{entries[n][0]}: {entries[n][1].args[1]}",
    )
    return [entries[n][1] for n in np.flatnonzero(keep)], report


def _tried(make, *args):
    try:
        return make(*args)
    except _Wrong as error:
        return error


def _tsv(cfg, path, knob):
    def record(line):
        *images, text = line.split("\t")
        if not images:
            raise _Wrong("malformed", "expected image<TAB>text")
        return _record(path.parent, {"images": [x for x in images if x], "text": text})

    return _lines(cfg, path, knob, record)


def _jsonl(cfg, path, knob):
    def record(line):
        return _record(path.parent, _object(line))

    return _lines(cfg, path, knob, record)


def _lines(cfg, path, knob, record):
    lines, report = read_lines(path, knob, cfg.invalid_utf8)
    numbered = enumerate(lines, start=1)
    entries = [
        (f"{path}: line {number}", _tried(record, line))
        for number, line in numbered
        if line.strip()
    ]
    return entries, report


def _tar(cfg, path, knob):
    entries, replaced, stems = [], 0, set()
    try:
        with awaited(path), tarfile.open(path, "r:") as tar:
            for stem, some in itertools.groupby(each(tar, path), _stem):
                if stem in stems:
                    raise DataError(f"{knob}: {path} has {stem} in two places")
                stems.add(stem)
                files = [x for x in some if x.isfile()]
                members = {_extension(x): x for x in files}
                if len(members) < len(files):
                    raise DataError(f"{knob}: {path} has a file of {stem} twice")
                record, wrong = _of_members(cfg, path, stem, members, tar)
                replaced += wrong
                if record is not None:
                    entries.append((f"{path}: {stem}", record))
    except FileNotFoundError as error:
        raise DataError(f"{knob}: there is no file {path}") from error
    except (OSError, tarfile.TarError) as error:
        raise DataError(f"{knob}: cannot read {path}: {error}") from error
    return entries, {"sha256": digest(path), "invalid_utf8_lines": replaced}


def _stem(member):
    folder, slash, name = member.name.rpartition("/")
    return folder + slash + name.partition(".")[0]


def _extension(member):
    """What is behind the stem: WebDataset has ``a.mask.png`` beside ``a.png``."""
    return member.name.removeprefix(_stem(member)).lower()


def _of_members(cfg, path, stem, members, tar):
    """(record, `_Wrong` or None, whether bytes were replaced) of one name."""
    images = [x for suffix, x in members.items() if suffix in SUFFIXES]
    text = members.get(".txt") or members.get(".json")
    if not images:
        return None, False
    if text is None or text.size > _MOST_TEXT:
        return _Wrong("malformed", "there is no .txt or .json beside it"), False
    where = f"{path}: {text.name}"
    said, replaced = decode(tar.extractfile(text).read(), cfg.invalid_utf8, where)
    items = [Member(path, x.name, x.offset_data, x.size) for x in images]

    def record():
        document = _object(said) if text.name.endswith(".json") else {"text": said}
        return _record(path.parent, {**document, "images": items, "image": None})

    return _tried(record), replaced


FORMATS: dict[str, Callable] = {".tsv": _tsv, ".jsonl": _jsonl, ".tar": _tar}


def _object(text):
    try:
        document = bounded_json.loads(text, dict)
        if "\\ud" in text.lower():  # half of a pair of UTF-16 is no text
            json.dumps(document, ensure_ascii=False).encode()
        return document
    except ValueError as error:
        raise _Wrong("malformed", f"is not JSON: {error}") from error


def _record(folder, document):
    images = document.get("images") or document.get("image") or []
    images = [images] if isinstance(images, str) else images
    if not _all(images, (str, Member)):
        raise _Wrong("malformed", "its images are no list of paths")
    turns = _turns(document, len(images))
    if (wanted := sum(turn.image for turn in turns)) != len(images):
        raise _Wrong(
            "markers", f"{len(images)} images, and {MARKER} for {wanted} of them"
        )
    if not turns:
        raise _Wrong("malformed", "it has no turn")
    answers = document.get("answer")
    kind = document.get("kind", "question" if turns[-1].prompt else "caption")
    if not isinstance(kind, str) or not kind.strip():
        raise _Wrong("malformed", f"kind={kind!r} is no name of what is asked")
    return Record(
        tuple(folder / x if isinstance(x, str) else x for x in images),
        turns,
        kind,
        tuple(answers) if _all(answers, str) else (),
    )


def _turns(document: dict, images: int) -> tuple[Turn, ...]:
    if "turns" in document:
        turns = document["turns"]
        if not _all(turns, dict):
            raise _Wrong("malformed", "its turns are no list of objects")
        with_image = [x.get("image", True) for x in turns]
        if not _all(with_image, bool):
            raise _Wrong("malformed", "image of a turn must be true or false")
        return tuple(map(_turn, turns, with_image))
    if "text" not in document:
        return (_turn(document, images > 0),)
    (text,) = _text_of(document, "text")
    if MARKER not in text:
        return (Turn("", text.strip(), images > 0),)
    first, *rest = map(str.strip, text.split(MARKER))
    before = [Turn("", first, image=False)] if first else []
    return *before, *(Turn("", part) for part in rest)


def _turn(document, image):
    prompt, answer = _text_of(document, "prompt", "answer")
    if MARKER in prompt + answer:
        raise _Wrong(
            "markers", f"{MARKER} in a prompt or answer: its image stands in front"
        )
    return Turn(prompt, answer, image)


def _text_of(document, *names):
    values = [document.get(name, "" if name == "prompt" else None) for name in names]
    values = [x[0] if _all(x, str) and x else x for x in values]
    if not _all(values, str):
        raise _Wrong("malformed", f"it lacks {' and '.join(names)}, as text")
    return [x.strip() for x in values]


def _all(values: Any, kind: Any) -> bool:
    return isinstance(values, list) and all(isinstance(x, kind) for x in values)


def content(cfg: Any) -> Iterable[Any]:
    """Plain JSON that changes with the lists and the files that they name."""
    for split in ("train", "valid", "test"):
        if getattr(cfg, f"{split}_files"):
            records, _ = read(cfg, split)
            yield [[str(path), digest(path)] for path in shards(cfg, split)]
            there = {x for one in records for x in one.images if isinstance(x, Path)}
            yield [[str(path), *_stamp(path)] for path in sorted(there)]


def _stamp(path):
    try:
        stat = path.stat()
    except (OSError, ValueError):  # no such file, no such name
        return []
    return [stat.st_size, stat.st_mtime_ns]
