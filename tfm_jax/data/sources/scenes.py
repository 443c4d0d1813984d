"""Rendered scenes: coloured shapes, their captions, and questions with answers.

Without files, without end, and of equal bytes on every machine: whole numbers alone,
from one Philox generator (Salmon et al. 2011) for each example. Pairs of a colour and a
shape that training never sees are held out, as CLEVR-CoGenT (Johnson et al. 2017,
arXiv:1612.06890, section 4.7) does.
"""

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from tfm_jax.data.sources.mechanisms.examples import MOST
from tfm_jax.data.sources.turns import Example, ImageTexts, Turn
from tfm_jax.knobs import check_numbers, inherit, knob, roles_of

COLORS = {
    "red": (220, 40, 40),
    "green": (40, 190, 60),
    "blue": (50, 80, 230),
    "yellow": (230, 210, 40),
    "purple": (160, 50, 200),
    "white": (230, 230, 230),
}
# name -> (x, y, n) -> where it is; from -n to n, in halves of a pixel, y downwards
SHAPES = {
    "circle": lambda x, y, n: x * x + y * y <= n * n,
    "square": lambda x, y, n: 8 * np.maximum(abs(x), abs(y)) <= 7 * n,
    "triangle": lambda x, y, n: (2 * abs(x) <= y + n) & (abs(y) < n),
    "cross": lambda x, y, n: (
        (3 * np.minimum(abs(x), abs(y)) <= n) & (np.maximum(abs(x), abs(y)) < n)
    ),
    "ring": lambda x, y, n: (
        (x * x + y * y <= n * n) & (10 * (x * x + y * y) >= 4 * n * n)
    ),
    "diamond": lambda x, y, n: abs(x) + abs(y) <= n,
}
SIZES = ("large", "small")
PLACES = ("top left", "top right", "bottom left", "bottom right")
NUMBERS = ("one", "two", "three", "four")
NONSENSE = ("dax", "blick", "wug", "fep", "toma", "zorp")
RENAMED = {"nothing": (), "colors": COLORS, "shapes": SHAPES}
PAIRS = {  # name -> (colour + diagonal) % 6, shape -> whether scenes have such a pair
    "seen": lambda color, shape: color != shape,
    "unseen": lambda color, shape: color == shape,
    "all": lambda color, shape: color == color,
}
RELATIONS = {  # name -> (place, place) -> whether the first is there, of the second
    "left of": lambda a, b: a % 2 < b % 2,
    "right of": lambda a, b: a % 2 > b % 2,
    "above": lambda a, b: a // 2 < b // 2,
    "below": lambda a, b: a // 2 > b // 2,
}
TEXTS = {  # name -> a drawn number -> whether a caption is wanted
    "captions": lambda number: True,
    "questions": lambda number: False,
    "both": lambda number: number % 2 == 0,
}
SPLITS = ("train", "valid", "test")
_MOST = 4  # objects
_NAMINGS = [*itertools.permutations(NONSENSE)]
_CORNERS = np.array([*itertools.permutations(range(_MOST))])
_WORDS = 4 + 5 * _MOST  # of 64 bits that a scene draws besides its noise
_CHUNK = 512  # examples drawn at a time


class Thing(NamedTuple):
    """An object as texts tell of it."""

    place: int  # in PLACES
    color: str
    shape: str
    size: str  # "": all are alike

    @property
    def name(self) -> str:
        """With an article."""
        return " ".join(x for x in ("a", self.size, self.color, self.shape) if x)


def caption(things: list[Thing]) -> str:
    """All objects with their places, in reading order."""
    return " and ".join(f"{x.name} at the {PLACES[x.place]}" for x in things)


def _relation(things, number):
    """A question about a relation to an object, of one answer where there is such."""
    answers = {}
    for name in dict.fromkeys(thing.name for thing in things):
        for relation, holds in RELATIONS.items():
            there = {
                a.name: None
                for a in things
                for b in things
                if b.name == name and holds(a.place, b.place)
            }
            answers[f"what is {relation} the {name.removeprefix('a ')} ?"] = [*there]
    best = [x for x in answers.items() if len(x[1]) == 1] or [*answers.items()]
    question, there = best[number % len(best)]
    return question, " and ".join(there) or "nothing"


def _one(what, answer):
    """A question about one of the objects, by its place."""

    def ask(things, number):
        thing = things[number % len(things)]
        return f"what {what} the {PLACES[thing.place]} ?", answer(thing)

    return ask


QUESTIONS = {  # type -> (objects, a drawn number) -> (question, answer)
    "object": _one("is at", lambda thing: thing.name),
    "color": _one("color is the object at", lambda thing: thing.color),
    "shape": _one("shape is the object at", lambda thing: thing.shape),
    "size": _one("size is the object at", lambda thing: thing.size),
    "count": lambda things, _: (
        "how many objects are there ?",
        NUMBERS[len(things) - 1],
    ),
    "relation": _relation,
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Which scenes there are, and what is said of them."""

    ROLE = "training"

    seed: int = knob(0, "draws the scenes", low=0)
    size: int = knob(
        32, "pixels, height and width", role="architecture", low=16, high=1024
    )
    train: int = knob(8_000, "examples to train on", low=1, high=MOST)
    valid: int = knob(
        1_000, "of the validation split; 0: none of its own", low=0, high=MOST
    )
    test: int = knob(1_000, "of the test split; 0: none of its own", low=0, high=MOST)
    pairs: str = knob("seen", "of a colour and a shape, in every split", choices=PAIRS)
    diagonal: int = knob(
        0,
        "which six pairs are unseen: color n and shape n + diagonal",
        low=0,
        high=len(SHAPES) - 1,
    )
    texts: str = knob("captions", "what is said of a scene", choices=TEXTS)
    questions: tuple[str, ...] = knob(
        ("object", "color", "shape", "count"),
        f"types, each as often: {', '.join(QUESTIONS)}",
    )
    objects: int = knob(2, "of a scene at most", low=1, high=_MOST)
    sizes: int = knob(1, "of objects; 2: small and large", low=1, high=len(SIZES))
    renamed: str = knob(
        "nothing",
        "what has other, made-up names in every example, which its turns share",
        choices=RENAMED,
    )

    READ_WITH = {
        ("texts", ("questions", "both")): ("questions",),
        ("pairs", ("seen", "unseen")): ("diagonal",),
    }

    def __init_subclass__(cls, *, fixed=None, **options):
        super().__init_subclass__(**options)
        inherit(cls, fixed=fixed)

    def __post_init__(self):
        check_numbers(self, "data.scenes")
        wrong = [x for x in self.questions if x not in QUESTIONS]
        if wrong or not self.questions or ("size" in self.questions and self.sizes < 2):
            legal = [x for x in QUESTIONS if x != "size" or self.sizes > 1]
            raise ValueError(
                f"data.scenes.questions={','.join(self.questions)!r} with data.scenes."
                f"sizes={self.sizes}; choose some from ({', '.join(legal)})"
            )


_ONE: dict[str, Any] = dict(objects=1, sizes=1, renamed="nothing")
_ONE |= dict(texts="questions", questions=("object",))


@dataclasses.dataclass(frozen=True)
class OneObject(Config, fixed=_ONE):
    """Scenes of one object, of which the question is what it is."""


def knobs_of(cls: type) -> tuple[str, ...]:
    """Dotted knobs of such a section, in one that calls it ``scenes``."""
    return tuple(roles_of(cls, "scenes."))


KNOBS = knobs_of(Config)
CLASSES = tuple(f"{color} {shape}" for color in COLORS for shape in SHAPES)


class _Drawn(NamedTuple):
    """Examples; the last scene is the first of its row, whatever stands before it."""

    kind: np.ndarray  # [B] uint64
    naming: np.ndarray  # [B] index in _NAMINGS
    counts: np.ndarray  # [B, scenes] objects
    places: np.ndarray  # [B, scenes, objects] sorted; _MOST: no object
    colors: np.ndarray  # [B, scenes, objects], as the rest
    shapes: np.ndarray
    sizes: np.ndarray
    offsets: np.ndarray  # [B, scenes, objects, 2] uint64, y and x
    brightness: np.ndarray  # uint64
    asked: np.ndarray  # [B, scenes] uint64
    noise: np.ndarray  # [B, scenes, height, width, 3] uint8


def load(cfg: Config, split: str, shots: int = 0) -> tuple[ImageTexts, dict[str, Any]]:
    """The examples of one split, each of ``shots`` scenes and one more, and a report.

    The last scene of an example, what is said of it and the names in it do not depend
    on ``shots``, nor do scenes on what is said of them.
    """
    count, size = getattr(cfg, split), cfg.size
    pixels = np.empty((count, shots + 1, size, size, 3), np.uint8)
    examples: list[Example] = []
    first = 0
    for drawn in _draw(cfg, split, shots):
        pixels[first : first + len(drawn.kind)] = _render(cfg, drawn)[:, ::-1]
        first += len(drawn.kind)
        examples += _written(cfg, drawn, len(examples))
    report = {"scenes": count * (shots + 1)}
    return ImageTexts(examples, pixels.reshape(-1, size, size, 3)), report


def texts(cfg: Config, split: str) -> list[str]:
    """What is said of the scenes of one split."""
    drawn = itertools.chain.from_iterable(
        _written(cfg, some, 0) for some in _draw(cfg, split, 0)
    )
    return [example.turns[-1].text for example in drawn]


def language() -> list[str]:
    """Texts with all words there are, made-up ones too, whatever scenes say.

    Tokenizers are trained on them: one for all that scenes are used for.
    """
    said = []
    numbered = enumerate([*COLORS, *NONSENSE])
    for place, (n, color) in itertools.product(range(len(PLACES)), numbered):
        shape, size = [*SHAPES][n % len(SHAPES)], ("", *SIZES)[n % 3]
        things = [Thing(place, color, shape, size)] * (1 + n % _MOST)
        said.append(caption(things))
        said += [" ".join(ask(things, n)).strip() for ask in QUESTIONS.values()]
    return said


def pairs_of(cfg: Config) -> np.ndarray:
    """[pairs, 2]: the colours and shapes that scenes have, as numbers."""
    color, shape = np.divmod(np.arange(len(COLORS) * len(SHAPES)), len(SHAPES))
    there = PAIRS[cfg.pairs]((color + cfg.diagonal) % len(SHAPES), shape)
    return np.stack([color, shape], 1)[there]


def _draw(cfg: Config, split: str, shots: int) -> Iterator[_Drawn]:
    scenes, noise = shots + 1, -(-cfg.size * cfg.size * 3 // 8)
    words = 2 + scenes * (_WORDS + noise)
    start, count = SPLITS.index(split) << 48, getattr(cfg, split)
    for first in range(0, count, _CHUNK):
        raw = np.stack([
            np.random.Philox(key=[cfg.seed, start + number]).random_raw(words)
            for number in range(first, min(first + _CHUNK, count))
        ])  # fmt: skip
        of_each = raw[:, 2:].reshape(len(raw), scenes, -1)
        yield _decoded(cfg, raw[:, :2], of_each[..., :_WORDS], of_each[..., _WORDS:])


def _decoded(cfg, of_example, of_scene, noise):
    counts = 1 + (of_scene[..., 0] % np.uint64(cfg.objects)).astype(int)
    corners = _CORNERS[(of_scene[..., 1] % np.uint64(len(_CORNERS))).astype(int)]
    absent = np.arange(_MOST) >= counts[..., None]
    of_object = of_scene[..., 4:].reshape(*of_scene.shape[:-1], _MOST, 5)
    legal = pairs_of(cfg)
    pairs = legal[(of_object[..., 0] % np.uint64(len(legal))).astype(int)]
    pixels = noise.astype("<u8").view(np.uint8)[..., : cfg.size * cfg.size * 3]
    return _Drawn(
        kind=of_example[:, 0],
        naming=(of_example[:, 1] % np.uint64(len(_NAMINGS))).astype(int),
        counts=counts,
        places=np.sort(np.where(absent, _MOST, corners), -1),
        colors=pairs[..., 0],
        shapes=pairs[..., 1],
        sizes=(of_object[..., 1] % np.uint64(cfg.sizes)).astype(int),
        offsets=of_object[..., 2:4],
        brightness=of_object[..., 4],
        asked=of_scene[..., 2],
        noise=pixels.reshape(*noise.shape[:-1], cfg.size, cfg.size, 3),
    )


def _render(cfg, drawn):
    """[B, scenes, height, width, 3] uint8."""
    half = cfg.size // 2
    box = 3 * cfg.size // 8
    masks, room = _masks(box), np.uint64(half - box + 1)
    images = drawn.noise & 31
    table = np.array([*COLORS.values()])
    for slot in range(cfg.objects):
        row, scene = np.nonzero(drawn.places[..., slot] < _MOST)
        at = row, scene, slot
        corner = np.stack(np.divmod(drawn.places[at], 2), -1) * half
        y, x = (corner + (drawn.offsets[at] % room).astype(int)).T[..., None]
        y, x = (y + np.arange(box))[..., None], (x + np.arange(box))[:, None]
        brightness = 218 + (drawn.brightness[at] % np.uint64(64)).astype(int)
        color = np.minimum(table[drawn.colors[at]] * brightness[:, None] >> 8, 255)
        where = row[:, None, None], scene[:, None, None], y, x
        mask = masks[drawn.sizes[at], drawn.shapes[at]][..., None]
        color = color[:, None, None].astype(np.uint8)
        images[where] = np.where(mask, color, images[where])
    return images


def _masks(box):
    """[sizes, shapes, box, box] bool."""
    middle = 2 * np.arange(box) - (box - 1)
    x, y = middle, middle[:, None]
    return np.array([
        [np.broadcast_to(shape(x, y, n), (box, box)) for shape in SHAPES.values()]
        for n in (box, 2 * box // 3)  # large, small
    ])  # fmt: skip


def _written(cfg, drawn, before):
    """The examples in words. Args: before: how many examples there are already."""
    counts, places, colors, shapes, sizes = (
        x.tolist() for x in drawn[2:7]
    )  # NumPy's own numbers are slow
    kinds, asked = drawn.kind.tolist(), drawn.asked.tolist()
    for n, naming in enumerate(drawn.naming.tolist()):
        names = dict(colors=[*COLORS], shapes=[*SHAPES], sizes=[*SIZES])
        if cfg.sizes == 1:
            names["sizes"] = [""]
        if cfg.renamed in names:
            names[cfg.renamed] = _NAMINGS[naming]
        kind = "caption"
        if not TEXTS[cfg.texts](kinds[n]):
            kind = cfg.questions[(kinds[n] >> 8) % len(cfg.questions)]
        turns = []
        for scene in reversed(range(len(counts[n]))):
            things = [
                Thing(
                    places[n][scene][slot],
                    names["colors"][colors[n][scene][slot]],
                    names["shapes"][shapes[n][scene][slot]],
                    names["sizes"][sizes[n][scene][slot]],
                )
                for slot in range(counts[n][scene])
            ]
            if kind == "caption":
                turns.append(Turn("", caption(things)))
            else:
                turns.append(Turn(*QUESTIONS[kind](things, asked[n][scene])))
        first = (before + n) * len(turns)
        images = tuple(range(first, first + len(turns)))
        yield Example(tuple(turns), kind, (turns[-1].answer,), images)
