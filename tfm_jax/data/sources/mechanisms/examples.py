"""Examples of a mechanism: contexts that all differ, their answers, and their chance.

An example is a context, one or more queries and their answers, all words. A model that
reads on sees "k1 v4 k0 v2 , k0 = v2", one that translates sees "k1 v4 k0 v2 , k0" and
writes "v2". What a prompt asks for follows from the prompt alone: ``answer`` reads it
off, and is right always.
"""

import collections
import dataclasses
import functools
import itertools
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from tfm_jax.data.errors import DataError
from tfm_jax.data.sources.mechanisms.tasks import QUERY, TASKS, Prompt, Words
from tfm_jax.knobs import check_numbers, knob, roles_of

SPLITS = ("valid", "test", "train")  # in the order in which they are drawn
ANSWER, END = "=", "</s>"
MOST = 1_000_000  # examples of a split: they are drawn and held in memory
_GUESSED = 10_000  # examples at most that guesses are made of
_PATIENCE = 50_000  # contexts in a row that were drawn before
_READ = {
    name: tuple(task for task, what in TASKS.items() if name in what.reads)
    for name in ("symbols", "queries", "fillers", "relations", "joined", "worked")
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Which mechanism, and how hard it is."""

    ROLE = "training"

    task: str = knob("recall", "the mechanism", choices=TASKS)
    length: int = knob(
        8, "items of a context at most: symbols, pairs or brackets", low=1, high=10_000
    )
    shortest: int = knob(
        0,
        "at least; each length is drawn as often, and skipped once it has no new "
        "contexts. 0: all have ``length``",
        low=0,
        high=10_000,
    )
    symbols: int = knob(16, "different ones; also the modulus", low=2, high=10_000)
    queries: int = knob(
        1, "of a context, which all differ; fewer if it has no more", low=1, high=10_000
    )
    fillers: int = knob(0, "words without meaning in a context", low=0, high=100_000)
    relations: int = knob(2, "symbols that each answer names", low=1, high=8)
    joined: bool = knob(False, "a key and its value are one word")
    worked: bool = knob(False, "an answer has that of every beginning in front of it")
    train: int = knob(10_000, "examples to train on, all different", low=1, high=MOST)
    valid: int = knob(500, "of the validation split; 0: absent", low=0, high=MOST)
    test: int = knob(0, "of the test split; 0: absent", low=0, high=MOST)
    seed: int = knob(0, "draws the examples", low=0)

    READ_WITH = {
        ("task", tasks): tuple(name for name in _READ if _READ[name] == tasks)
        for tasks in _READ.values()
    }

    def __post_init__(self):
        check_numbers(self, "data.mechanism")
        wrong = TASKS[self.task].check(self) if self.task in TASKS else ""
        if self.shortest > self.length:
            wrong = f"shortest={self.shortest} of length={self.length} at most"
        if wrong:
            raise ValueError(f"data.mechanism.task={self.task!r} cannot have {wrong}")


KNOBS = tuple(roles_of(Config, "mechanism."))
SIZES = {  # task -> what differs from 8 symbols of 16, in configs
    "recall": dict(shortest=1, queries=8),
    "copy": {},
    "reverse": {},
    "sort": {},
    "induction": dict(queries=4, symbols=32),
    "selective_copy": dict(fillers=16),
    "count": dict(symbols=4),
    "parity": dict(length=12, train=2_000),
    "brackets": dict(symbols=3),
    "modular_sum": dict(length=2, symbols=47, train=1_500),
    "relations": dict(length=12, symbols=8, relations=3),
}


class Example(NamedTuple):
    """A prompt, and the words of the answer to each of its queries."""

    prompt: Prompt
    answers: list[Words]

    @property
    def document(self) -> str:
        """Prompt and answers as one text, each answer behind its query."""
        words = [*self.prompt.context]
        for query, answer in zip(self.prompt.queries, self.answers, strict=True):
            words += [*((QUERY, *query) if query else ()), ANSWER, *answer]
        return " ".join(words)

    @property
    def pair(self) -> tuple[str, str]:
        """(prompt, answers)."""
        return self.prompt.text, " ".join(
            word for each in self.answers for word in each
        )


def answer(cfg: Config, prompt: Prompt) -> Example:
    """The prompt with the answers that are right."""
    solve = TASKS[cfg.task].answer
    return Example(
        prompt, [solve(cfg, prompt.context, query) for query in prompt.queries]
    )


def span(cfg: Any, split: str) -> tuple[int, int]:
    """(first, count) of a split in what is drawn; the others do not depend on train."""
    before = SPLITS[: SPLITS.index(split)]
    return sum(getattr(cfg, name) for name in before), getattr(cfg, split)


def load(
    cfg: Config, split: str, *, ends: bool = False
) -> tuple[list[Example], dict[str, Any]]:
    """The examples of one split: (examples, report).

    No context comes twice, in whatever split; those held out do not depend on
    ``train``. Where lengths differ, no more than half of the contexts of a length are
    held out. The report has the accuracy of `chance`, unless the split is absent, and
    the number of words that it is of, ``answer_words``.

    Args: ends: whether the end of an answer is predicted, too.
    Raises: DataError if there are not so many.
    """
    prompts, there = _prompts(cfg, split)
    if len(prompts) < (count := getattr(cfg, split)):
        half = ", of a length half of them at most held out" if _spares(cfg) else ""
        larger = " or symbols" if "symbols" in TASKS[cfg.task].reads else ""
        raise DataError(
            f"data.mechanism.{split}={count}: {cfg.task} of these sizes has hardly "
            f"more than {there:,} contexts, of all splits{half}; raise "
            f"data.mechanism.length{larger}, or lower train, valid or test"
        )
    examples = [answer(cfg, prompt) for prompt in prompts]
    words = sum(len(words) for example in examples for words in example.answers)
    report = {"task": cfg.task, "answer_words": words + ends * len(examples)}
    if examples:
        report["chance"] = chance(examples, _guesses(cfg, ends), ends)
    return examples, report


def _spares(cfg):
    """Whether half of the contexts of a length are not held out, as some are few."""
    return 0 < cfg.shortest < cfg.length


def _prompts(cfg, split):
    """Those of one split, in the order in which they are drawn, and how many all are.

    Fewer than there should be where hardly any is left.
    """
    sides: tuple[list[Prompt], list[Prompt]] = [], []  # trained on, held out
    first, count = span(cfg, split) if split != "train" else (0, cfg.train)
    side = sides[split != "train"]
    of_length: collections.Counter = collections.Counter()
    for prompt in _drawn(cfg):
        length = len(prompt.context)
        of_length[length] += 1
        spared = _spares(cfg) and of_length[length] % 2
        held_out = len(sides[1]) < cfg.valid + cfg.test and not spared
        sides[held_out].append(prompt)
        if len(side) >= first + count:
            break
    return side[first : first + count], of_length.total()


def _drawn(cfg: Config) -> Iterator[Prompt]:
    """Prompts whose contexts all differ, until hardly any is left."""
    rng = np.random.default_rng((cfg.seed, 0))
    least = cfg.shortest or cfg.length
    seen: set[tuple[str, ...]] = set()
    repeated = 0
    while repeated <= _PATIENCE:
        length = int(rng.integers(least, cfg.length + 1))
        prompt = TASKS[cfg.task].draw(cfg, rng, length)
        repeated += 1
        if (context := tuple(prompt.context)) not in seen:
            seen.add(context)
            repeated = 0
            yield prompt


@functools.lru_cache
def _guesses(cfg, ends):
    """Position in an answer -> the word that is there most often in training.

    Of a variant, in training on rows of its sizes.
    """
    few = dataclasses.replace(cfg, train=min(cfg.train, _GUESSED))
    counts: Any = collections.defaultdict(collections.Counter)
    for prompt in _prompts(few, "train")[0]:
        for position, word in _numbered(answer(cfg, prompt), ends):
            counts[position][word] += 1
    return {n: max(words, key=words.get) for n, words in counts.items()}


def chance(examples: Iterable[Example], guesses: dict[int, str], ends: bool) -> float:
    """Accuracy of a guess that knows no more than the position in the answer.

    Args:
        guesses: the word that is guessed at each.
        ends: whether the end of all answers to a prompt is a word, too.
    """
    words = (pair for example in examples for pair in _numbered(example, ends))
    return round(float(np.mean([guesses.get(n) == word for n, word in words])), 3)


def _numbered(example, ends):
    """(position, word) of every answer."""
    answers = example.answers
    if ends:
        answers = [[*itertools.chain(*answers), END]]
    return itertools.chain(*map(enumerate, answers))
