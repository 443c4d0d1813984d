"""Tasks: how the prompts of each mechanism are drawn, and what answers them."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

QUERY, FILLER = ",", "."

Words = list[str]


class Prompt(NamedTuple):
    """A context and its queries; one empty query concerns the whole context."""

    context: Words
    queries: Sequence[Sequence[str]] = ((),)

    @property
    def text(self) -> str:
        """Words with spaces, a comma in front of each query."""
        asked = [word for query in self.queries if query for word in (QUERY, *query)]
        return " ".join([*self.context, *asked])


class Task(NamedTuple):
    """A mechanism.

    Attributes:
        draw: (section, generator, length) -> prompt.
        answer: (section, context, query) -> words, the only ones that are right.
        reads: knobs of the section that have an effect, besides those all tasks read.
        check: section -> what is wrong with it, or "".
    """

    draw: Callable[[Any, np.random.Generator, int], Prompt]
    answer: Callable[[Any, Words, Sequence[str]], Words]
    reads: tuple[str, ...] = ("symbols",)
    check: Callable[[Any], str] = lambda cfg: ""


def _symbols(cfg, rng, length):
    return Prompt([*map(str, rng.integers(cfg.symbols, size=length))])


def _sorted(cfg, context, query):
    return sorted(context, key=int)


def _distinct(cfg):
    if cfg.length > cfg.symbols:
        return f"length={cfg.length} distinct ones of symbols={cfg.symbols}"
    return ""


def _pairs(cfg, rng, length):
    """Keys that all differ, each followed by a value; fillers between pairs."""
    keys = rng.permutation(cfg.symbols)[:length]
    values = rng.integers(cfg.symbols, size=length)
    asked = keys[rng.permutation(length)[: cfg.queries]]
    pairs = [(f"k{k}", f"v{v}") for k, v in zip(keys, values, strict=True)]
    if cfg.joined:
        pairs = [(key + value,) for key, value in pairs]
    spread = _among_fillers(cfg, rng, pairs)
    return Prompt(spread, [[f"k{key}"] for key in asked])


def _among_fillers(cfg, rng, items):
    """The words of ``items``, tuples, in order; fillers at random positions."""
    filled = {*rng.permutation(len(items) + cfg.fillers)[: cfg.fillers].tolist()}
    rest, words = iter(items), []
    for position in range(len(items) + cfg.fillers):
        words += (FILLER,) if position in filled else next(rest)
    return words


def _value(cfg, context, query):
    if not cfg.joined:
        return _after(cfg, context, query)
    (pair,) = (word for word in context if word.startswith(f"{query[0]}v"))
    return [pair.removeprefix(query[0])]


def _after(cfg, context, query):
    return [context[context.index(query[0]) + 1]]


def _sequence(cfg, rng, length):
    """Symbols that all differ, and some of them again, none of them the last."""
    symbols = [*map(str, rng.permutation(cfg.symbols)[: length + 1])]
    asked = rng.permutation(length)[: cfg.queries]
    return Prompt(symbols, [[symbols[position]] for position in asked])


def _longer_by_one(cfg):
    if cfg.length >= cfg.symbols:
        return f"length={cfg.length} and one more of symbols={cfg.symbols}"
    return ""


def _scattered(cfg, rng, length):
    symbols = [(str(symbol),) for symbol in rng.integers(cfg.symbols, size=length)]
    return Prompt(_among_fillers(cfg, rng, symbols))


def _without_fillers(cfg, context, query):
    return [word for word in context if word != FILLER]


def _counted(cfg, rng, length):
    (context, _) = _symbols(cfg, rng, length)
    kinds = sorted({*context}, key=int)
    return Prompt(context, [[kinds[rng.integers(len(kinds))]]])


def _count(cfg, context, query):
    return [str(context.count(query[0]))]


def _parity(cfg, context, query):
    of_each = np.cumsum([*map(int, context)]) % 2
    return [*map(str, of_each if cfg.worked else of_each[-1:])]


def _bits(cfg, rng, length):
    return Prompt([*map(str, rng.integers(2, size=length))])


def _brackets(cfg, rng, length):
    """A beginning of a Dyck word, in which at least one bracket is open at the end."""
    words, open_ones = [], []
    kinds, closes = rng.integers(cfg.symbols, size=length), rng.random(length) < 0.5
    for position, (kind, close) in enumerate(zip(kinds, closes, strict=True)):
        if close and len(open_ones) > (position == length - 1):
            words.append(f"){open_ones.pop()}")
        else:
            words.append(f"({kind}")
            open_ones.append(kind)
    return Prompt(words)


def _closing(cfg, context, query):
    open_ones: Words = []
    for word in context:
        if word[0] == "(":
            open_ones.append(f"){word[1:]}")
        else:
            open_ones.pop()
    return open_ones[::-1]


def _at_distances(cfg, context, query):
    """At each position the symbols 1, 2, 3, ... before it, around the end."""
    distances = range(1, cfg.relations + 1)
    return [
        ".".join(context[position - distance] for distance in distances)
        for position in range(len(context))
    ]


def _enough_symbols(cfg):
    least = cfg.shortest or cfg.length
    if cfg.relations > least:
        return f"relations={cfg.relations} of {least} symbols"
    return ""


TASKS: dict[str, Task] = {
    "copy": Task(_symbols, lambda cfg, context, query: context),
    "reverse": Task(_symbols, lambda cfg, context, query: context[::-1]),
    "sort": Task(_symbols, _sorted),
    # Arora et al. 2023, arXiv:2312.04927, section 3: multi-query associative recall
    "recall": Task(
        _pairs, _value, ("symbols", "queries", "fillers", "joined"), _distinct
    ),
    # Olsson et al. 2022, arXiv:2209.11895: what followed when this was last seen
    "induction": Task(_sequence, _after, ("symbols", "queries"), _longer_by_one),
    # Gu and Dao 2023, arXiv:2312.00752, section 3.1
    "selective_copy": Task(_scattered, _without_fillers, ("symbols", "fillers")),
    "count": Task(_counted, _count),
    # Hahn 2020, arXiv:1906.06755; worked out: Kim and Suzuki 2024, arXiv:2410.08633
    "parity": Task(_bits, _parity, ("worked",)),
    # Dyck-k: Yao et al. 2021, arXiv:2105.11115
    "brackets": Task(_brackets, _closing),
    # Power et al. 2022, arXiv:2201.02177
    "modular_sum": Task(
        _symbols,
        lambda cfg, context, query: [str(sum(map(int, context)) % cfg.symbols)],
    ),
    "relations": Task(
        _symbols, _at_distances, ("symbols", "relations"), _enough_symbols
    ),
}
