"""Trained language models in a notebook."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tfm_jax.data.rows import unlabelled
from tfm_jax.decode import scoring
from tfm_jax.decode.continuing import continuations
from tfm_jax.decode.prompting import Example, Prompting
from tfm_jax.notebook.run import TextRun, check_scored, listed, score_table
from tfm_jax.runs import prompted, saved
from tfm_jax.runs.log import counted


class CausalRun(TextRun):
    """A language model that continues texts."""

    __slots__ = ()

    def generate(
        self,
        prompts: Sequence[str],
        *,
        samples: int | None = None,
        end: str = "",
        **settings: Any,
    ) -> list:
        """What the model writes behind each prompt.

        Args:
            prompts: texts; "" where the run has a ``data.separator`` to start with.
            samples: None: one text a prompt; a number: a list of so many.
            end: the special token that ends a text; "": ``data.separator``, if any.
            settings: max_tokens, temperature, top_k, top_p, seed, or beam and
                length_penalty; see ``decode.continuing.continuations``.
        """
        prompts = listed(prompts, "generate", "prompts")
        edge = saved.separator(self)
        with counted(len(prompts)) as done:
            found = continuations(
                *(self.model, self.params, self.tokenizer, prompts),
                samples=samples or 1,
                start=edge,
                end=self.tokenizer.ids_of(end)[0] if end else edge,
                on_batch=done,
                **settings,
            )
        return found if samples else [text for (text,) in found]

    def score(self, texts: Sequence[str], *, prefix: str | None = None) -> pd.DataFrame:
        """How likely the model finds each text: ``log_prob`` (nats), and per token.

        Without a ``data.separator`` and without a prefix the first token is what the
        others are judged by, and does not count.

        Args: prefix: in front of every text, tokenised apart; it does not count.
        Raises: ValueError for a text of which no token counts.
        """
        texts = listed(texts, "score")
        edge = saved.separator(self)
        (front,) = unlabelled.started(self.tokenizer, [prefix or ""], edge).rows
        rows = unlabelled.started(self.tokenizer, texts, None).rows
        hint = "" if len(front) else "; nothing but a prefix says how likely a first is"
        unjudged = 0 if len(front) else 1
        check_scored(texts, [len(row) - unjudged for row in rows], hint)
        rows = [np.concatenate([front, row]) for row in rows]
        parts = self.model, self.params
        with counted(len(rows)) as done:
            found = scoring.next_log_probs(*parts, rows, on_batch=done)
        return score_table(texts, [x[max(len(front) - 1, 0) :] for x in found])

    def few_shot(
        self,
        queries: Any,
        examples: Any = (),
        *,
        k: int = 0,
        labels: Sequence[str] = (),
        table: str = "columns",
        **how: Any,
    ) -> pd.DataFrame:
        """Puts labelled texts to the model in words, behind ``k`` examples each.

        Source: Brown et al. 2020, arXiv:2005.14165, section 2.

        Args:
            queries, examples: lists of (text, label) or (first, second, label), or the
                path of a tab-separated file as ``table`` says, see ``read_examples``.
            k: examples drawn for each query; 0: zero-shot.
            labels: to choose from; by default all that occur.
            how: template, separator, instruction, words, scoring, neutral and seed, see
                ``decode.prompting.Prompting``.
        Returns: a row a query: its texts, ``label``, ``answer`` ("" if the model wrote
            none of the labels) and ``right``, whose mean is the accuracy; what was
            ``written``, or a score for each label.
        """
        queries = _examples(queries, table, "queries")
        examples = _examples(examples, table, "examples")
        settings = Prompting(examples=k, **how)
        found = prompted.few_shot(self, queries, examples, settings, labels)
        chosen = [found.names[n] if n >= 0 else "" for n in found.answers.chosen]
        answers = pd.DataFrame(found.queries, columns=Example._fields)
        if not answers["second"].any():
            answers = answers.drop(columns="second")
        answers = answers.assign(answer=chosen, right=answers["label"] == chosen)
        if found.answers.written:
            return answers.assign(written=found.answers.written)
        scores = dict(zip(found.names, found.answers.scores.T, strict=True))
        return answers.assign(**{f"score of {name}": x for name, x in scores.items()})

    def _probes(self, texts, method):
        texts = listed(texts, method)
        return unlabelled.started(self.tokenizer, texts, saved.separator(self))


def _examples(source, table, name):
    """``Example``s of a file, or of (text, label) and (first, second, label) tuples."""
    if isinstance(source, str | Path):
        return prompted.read_examples(source, table=table, knob=name)
    found = []
    for one in source:
        if isinstance(one, str) or len(one) not in (2, 3):
            raise TypeError(f"{name} has {one!r}, which is no (text, label) pair")
        first, *second, label = listed(one, "few_shot")
        found.append(Example(first, label, *second))
    return found
