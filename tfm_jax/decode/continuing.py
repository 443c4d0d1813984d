"""Texts that go on where prompts end, drawn or searched for."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from tfm_jax.decode.beam import beam_search
from tfm_jax.decode.hypotheses import Hypotheses
from tfm_jax.decode.inputs import Rows
from tfm_jax.decode.sampling import (
    Sampling,
    check_prompts,
    generate,
    primed,
    prompt_rows,
)
from tfm_jax.decode.search import Search, TokenIds
from tfm_jax.mesh import fetch

BATCH_PROMPTS = 32
NOTHING = -1  # an id that no token has


def continuations(
    model: nn.Module,
    params: Mapping[str, Any],
    tokenizer: Any,
    prompts: Sequence[str],
    *,
    max_tokens: int = 50,
    samples: int = 1,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    beam: int = 0,
    length_penalty: float = 0.6,
    start: int | None = None,
    end: int | None = None,
    seed: int = 0,
    on_batch: Callable[[int], object] = lambda count: None,
) -> list[list[str]]:
    """What a language model writes behind each prompt.

    Args:
        model, params: as for ``sampling.generate``; of the unrolled layout.
        tokenizer: has ``encode(texts)``, ``decode(rows)`` and ``unspelled(rows)``, the
            ids of the model's table that are never written.
        prompts: B texts, not empty unless there is a ``start``.
        max_tokens: of a continuation, at most.
        samples: W, continuations of each prompt.
        temperature, top_k, top_p: see ``Sampling``.
        beam: 0 draws; else the ``samples`` likeliest continuations that so wide a beam
            finds, see ``beam_search``.
        length_penalty: of the beam.
        start: id that stands in front of every text. end: id that ends one.
        seed: prompt b gets the same samples whatever stands beside it.
        on_batch: called with the number of prompts of each batch when it is done.
    Returns: B lists of W texts, without prompt, start and end.
    Raises: ValueError for a prompt that is empty or too long, and for settings that
        make no sense.
    """
    front = [] if start is None else [start]
    rows = [np.array([*front, *row], np.int32) for row in tokenizer.encode(prompts)]
    for prompt, row in zip(prompts, rows, strict=True):
        if not len(row):
            raise ValueError(
                f"prompt {prompt!r} has no token, and the model knows no token to "
                "start with: begin with a word"
            )
    if not rows:
        return []
    check_prompts(rows, max_tokens, model.cfg.longest)
    eos = NOTHING if end is None else end
    forbid = tokenizer.unspelled(model.cfg.vocab)
    if beam:
        if samples > beam:
            raise ValueError(f"samples={samples} must be in 1 .. beam={beam}")
        special = TokenIds(eos=eos, forbid=forbid)
        how = Search(beam, length_penalty, max_tokens, special, returned=samples)

        def run(first, batch):
            return best_continuations(model, params, batch, how)

    else:
        drawing = Sampling(
            *(max_tokens, samples, temperature, top_k, top_p), eos=eos, forbid=forbid
        )

        def run(first, batch):
            return generate(model, params, batch, drawing, seed=seed, first=first)

    texts = []
    for first in range(0, len(rows), BATCH_PROMPTS):
        batch = rows[first : first + BATCH_PROMPTS]
        written = fetch(run(first, batch))
        for tokens, lengths in zip(written.tokens, written.lengths, strict=True):
            texts.append(_texts(tokenizer, tokens, lengths, eos))
        on_batch(len(batch))
    return texts


def best_continuations(
    model: nn.Module, params: Mapping[str, Any], prompts: Rows, how: Search
) -> Hypotheses:
    """The likeliest continuations that a beam finds, best first.

    Args: prompts: as for ``sampling.generate``. how: ``max_length`` counts tokens of a
        continuation, ``special.bos`` does not count.
    """
    check_prompts(prompts, how.max_length, model.cfg.longest)
    rows = prompt_rows(prompts, how.max_length, model.cfg.longest)
    hypotheses = _best(model, how, params, *rows)
    return jax.tree.map(lambda x: x[: len(prompts)], hypotheses)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _best(model, how, params, tokens, lengths):
    step, cache, last = primed(
        model, params, tokens, lengths, width=how.beam, max_tokens=how.max_length
    )
    special = how.special._replace(bos=last)
    return beam_search(
        step,
        cache,
        batch=len(tokens),
        beam=how.beam,
        max_length=how.max_length,
        length_penalty=how.length_penalty,
        returned=how.returned,
        **special._asdict(),
    )


def _texts(tokenizer, tokens, lengths, eos):
    rows = [row[:n] for row, n in zip(tokens, lengths, strict=True)]
    return tokenizer.decode([row[row != eos] for row in rows])
