"""Captions of images, and answers to questions about them, by a trained model."""

import dataclasses
import itertools
import reprlib
from collections.abc import Callable, Sequence
from typing import Any

from tfm_jax.config import ConfigError
from tfm_jax.data.batch import ImageTextBatch
from tfm_jax.data.rows.image_text import image_text_rows
from tfm_jax.data.sources.turns import Example, ImageTexts, Turn
from tfm_jax.data.tokenizers import unknown
from tfm_jax.runs import saved
from tfm_jax.runs.images import classified
from tfm_jax.workloads import visual_lm


def answers(
    run: saved.Saved,
    prompts: Sequence[Sequence[tuple[Any, str, str]]],
    *,
    on_batch: Callable[[int], object] = lambda count: None,
) -> list[str]:
    """The answer to the last turn of each prompt.

    Args: prompts: turns (image, question, answer): those of the examples, then the one
        to be answered, whose answer does not count. Images: see ``classified.read``.
    Raises: DataError for what is no image, and for turns that fill a row; ConfigError
        for a run that has not learnt to write.
    """
    objectives = getattr(run.experiment.data, "objectives", ("generation",))
    if "generation" not in objectives:
        raise ConfigError(
            f"the run learnt data.objectives={objectives}; 'generation' writes captions"
        )
    if not prompts:
        return []
    unanswered = [(*turns[:-1], (*turns[-1][:2], "")) for turns in prompts]
    (end,) = run.tokenizer.ids_of(run.experiment.data.end)
    parts = run.model, run.params, run.tokenizer, rows_of(run, unanswered)
    return visual_lm.answers(*parts, end=end, on_batch=on_batch)


def rows_of(
    run: saved.Saved,
    prompts: Sequence[Sequence[tuple[Any, str, str]]],
    *,
    overlong: str = "error",
) -> ImageTextBatch:
    """A row of turns (image, question, answer) each, as long as the model reads them.

    Args: overlong: as ``data.overlong``.
    Raises: as ``answers``; ConfigError for more images than the model reads in a row;
        TypeError for turns that are none.
    """
    for turn in itertools.chain.from_iterable(prompts):
        texts = turn[1:] if isinstance(turn, tuple | list) else ()
        if len(texts) != 2 or not all(isinstance(text, str) for text in texts):
            raise TypeError(f"{reprlib.repr(turn)} is no (image, question, answer)")
    most = max(map(len, prompts))
    visual_lm.check_count(run.experiment, most, "rows", "ask without examples")
    pixels = classified.read(run, [image for turns in prompts for image, _, _ in turns])
    examples, first = [], 0
    for turns in prompts:
        numbers = tuple(range(first, first + len(turns)))
        first += len(turns)
        spoken = tuple(Turn(prompt, answer) for _, prompt, answer in turns)
        examples.append(Example(spoken, "", ("",), numbers))
    data, longest = run.experiment.data, run.model.cfg.longest
    length = longest or data.length * most
    data = dataclasses.replace(data, length=length, empty="keep", overlong=overlong)
    rows, *_ = image_text_rows(data, run.tokenizer, ImageTexts(examples, pixels))
    asked = [" ".join(turn.text for turn in example.turns) for example in examples]
    unknown.warn_of_rows(run.tokenizer, asked, rows)
    return rows
