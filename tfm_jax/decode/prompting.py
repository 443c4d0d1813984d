"""Tasks put to a language model in words, with examples in the prompt or without.

Source: Brown et al. 2020, arXiv:2005.14165, section 2 ("Approach") and section 2.4.
Deviates: "generated" is greedy, there a beam of 4; by default a label is scored by the
sum over its tokens, there by the mean (``scoring="mean"``).
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from flax import linen as nn

from tfm_jax.decode.continuing import continuations
from tfm_jax.decode.scoring import next_log_probs

_FIELD = re.compile(r"\{(text|second|label)\}")


class Example(NamedTuple):
    """A text, or a pair of texts, and its label."""

    text: str
    label: str
    second: str = ""


class Prompting(NamedTuple):
    """How a task is put.

    Attributes:
        examples: K, shown in front of each query, drawn for it alone; 0: zero-shot.
        template: of an example; ``{text}``, ``{second}`` and ``{label}`` are filled in.
            Of the query all in front of ``{label}`` is shown.
        separator: between examples.
        instruction: in front of them; "": none.
        words: label -> what stands for it in the prompt; by default its name.
        scoring: a key of SCORINGS, or "generated": what the model writes greedily, up
            to the end of the line, must be the words of a label.
        neutral: the context without content of the scoring "normalised".
        seed: draws the examples.
    """

    examples: int = 0
    template: str = "{text}\n{label}"
    separator: str = "\n\n"
    instruction: str = ""
    words: Mapping[str, str] = {}
    scoring: str = "sum"
    neutral: str = "Answer:"
    seed: int = 0


class Answers(NamedTuple):
    """What the model says to each query.

    Attributes:
        chosen: [n] int32, places in the names of the labels; -1: none of them.
        scores: [n, labels] float32, the largest was chosen; zeros if "generated".
        written: n texts if "generated", else none.
    """

    chosen: np.ndarray
    scores: np.ndarray
    written: list[str]


# (log-probability of the words, how many tokens they are, their log-probability behind
# the neutral context) -> score; Brown et al. 2020, section 2.4
SCORINGS = {
    "sum": lambda total, tokens, neutral: total,
    "mean": lambda total, tokens, neutral: total / tokens,
    "normalised": lambda total, tokens, neutral: total - neutral,
}


def drawn(how: Prompting, examples: Sequence[Example], number: int) -> list[Example]:
    """The examples shown to query ``number``; the same however many queries there are.

    Raises: ValueError if there are too few.
    """
    if how.examples > len(examples):
        raise ValueError(
            f"examples={how.examples}, but there are {len(examples)} to draw from"
        )
    rng = np.random.default_rng([how.seed, number])
    places = rng.permutation(len(examples))[: how.examples]
    return [examples[place] for place in places]


def prompt(how: Prompting, shown: Sequence[Example], query: Example) -> tuple[str, str]:
    """(context, space): an answer is ``space`` and the words of a label.

    Spaces in front of ``{label}`` belong to the answer, as tokenizers have them.
    """
    asked, _, _ = how.template.partition("{label}")
    bare = asked.rstrip(" ")
    blocks = [how.instruction] if how.instruction else []
    blocks += [_fill(how.template, how, example) for example in shown]
    return how.separator.join([*blocks, _fill(bare, how, query)]), asked[len(bare) :]


def answer(
    model: nn.Module,
    params: Mapping[str, Any],
    tokenizer: Any,
    queries: Sequence[Example],
    examples: Sequence[Example],
    names: Sequence[str],
    how: Prompting,
    *,
    start: int | None = None,
    on_batch: Callable[[int], object] = lambda count: None,
) -> Answers:
    """Puts each query to a language model, behind examples of its own.

    Args:
        tokenizer: has ``encode(texts)`` and ``decode(rows)``.
        queries, examples: lists of ``Example``; labels of queries do not count.
        names: the labels to choose from.
        start: id in front of every prompt, or None.
        on_batch: called with the number of rows of each batch when it is done; there
            is a row for each label of a query unless ``how.scoring`` is "generated".
    Raises: ValueError for settings that make no sense, too few examples, or a prompt
        that the model cannot take; then it says how many examples fit.
    """
    _check(how, names)
    words = [how.words.get(name, name) for name in names]
    shown = [drawn(how, examples, number) for number in range(len(queries))]
    asked = [prompt(how, *each) for each in zip(shown, queries, strict=True)]
    front = [] if start is None else [start]
    longest = _check_room(model, tokenizer, how, shown, queries, words, len(front))
    if how.scoring == "generated":
        texts = continuations(
            *(model, params, tokenizer, [context for context, _ in asked]),
            max_tokens=longest,
            temperature=0.0,
            start=start,
            on_batch=on_batch,
        )
        written = [text.split("\n")[0].strip() for (text,) in texts]
        place = {word.strip(): number for number, word in enumerate(words)}
        chosen = np.array([place.get(text, -1) for text in written], np.int32)
        return Answers(
            chosen, np.zeros((len(queries), len(names)), np.float32), written
        )
    parts = model, params, tokenizer, words, front, on_batch
    total, tokens = _likelihoods(*parts, asked)
    neutral = 0.0
    if how.scoring == "normalised":
        neutral, _ = _likelihoods(
            *parts, [(how.neutral, space) for _, space in asked[:1]]
        )
    scores = SCORINGS[how.scoring](total, tokens, neutral).astype(np.float32)
    return Answers(scores.argmax(axis=1).astype(np.int32), scores, [])


def _likelihoods(model, params, tokenizer, words, front, on_batch, asked):
    """Log-probabilities [n, labels] of words behind contexts, and how many tokens."""
    pairs = [(context, space + word) for context, space in asked for word in words]
    contexts = tokenizer.encode([context for context, _ in pairs])
    ends = tokenizer.encode([end for _, end in pairs])
    rows, totals = [], []
    for pair, context, end in zip(pairs, contexts, ends, strict=True):
        if not len(end):
            raise ValueError(f"the answer {pair[1]!r} has no token")
        if not len(front) + len(context):
            raise ValueError(f"the context {pair[0]!r} has no token to start with")
        rows.append(np.array([*front, *context, *end], np.int32))
    for end, x in zip(
        ends, next_log_probs(model, params, rows, on_batch=on_batch), strict=True
    ):
        totals.append(x[-len(end) :].sum())
    shape = len(asked), len(words)
    return np.reshape(totals, shape), np.reshape([len(end) for end in ends], shape)


def _fill(template, how, example):
    values = example._asdict()
    values["label"] = how.words.get(example.label, example.label)
    return _FIELD.sub(lambda match: values[match[1]], template)


def _check(how, names):
    legal = (*SCORINGS, "generated")
    if how.scoring not in legal:
        raise ValueError(f"scoring={how.scoring!r}; choose from ({', '.join(legal)})")
    if how.examples < 0 or not names:
        raise ValueError(
            f"examples={how.examples} must not be negative, and there must be labels"
        )
    found = [match[1] for match in _FIELD.finditer(how.template)]
    if "text" not in found or found.count("label") != 1:
        raise ValueError(
            f"template={how.template!r} must have {{text}}, and {{label}} once"
        )
    unknown = set(how.words) - set(names)
    if unknown:
        raise ValueError(
            f"words names labels {sorted(unknown)}; choose from ({', '.join(names)})"
        )


def _check_room(model, tokenizer, how, shown, queries, words, front):
    """Tokens of the longest answer. Raises: ValueError if a prompt has no room."""

    def lengths(count):
        asked = [
            prompt(how, some[:count], query)
            for some, query in zip(shown, queries, strict=True)
        ]
        return [len(row) for row in tokenizer.encode([text for text, _ in asked])]

    _, space = prompt(how, [], Example("", ""))
    end = max(len(row) for row in tokenizer.encode([space + word for word in words]))
    room = model.cfg.longest
    most = max(lengths(how.examples), default=0) + end + front
    if room and most > room:
        fits = how.examples - 1
        while fits >= 0 and max(lengths(fits)) + end + front > room:
            fits -= 1
        can = f"{fits} fit every query" if fits >= 0 else "not even a query fits"
        raise ValueError(
            f"with examples={how.examples} a prompt and its answer have {most} tokens, "
            f"the model takes {room} (model.max_length): {can}"
        )
    return end
