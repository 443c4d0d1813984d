"""Trained language models in a notebook."""

import numpy as np
import pandas as pd

from tfm_jax.data import probes
from tfm_jax.infer import scoring
from tfm_jax.infer.continuing import continuations
from tfm_jax.notebook.run import TextRun, listed, score_table
from tfm_jax.train import saved
from tfm_jax.train.log import counted


class CausalRun(TextRun):
    """A language model that continues texts."""

    __slots__ = ()

    def generate(self, prompts, *, samples: int | None = None, **settings) -> list:
        """What the model writes behind each prompt.

        Args:
            prompts: texts; "" where the run has a ``data.separator`` to start with.
            samples: None: one text a prompt; a number: a list of so many.
            settings: max_tokens, temperature, top_k, top_p, seed, or beam and
                length_penalty; see ``infer.continuing.continuations``.
        """
        prompts = listed(prompts, "generate", "prompts")
        edge = saved.separator(self)
        with counted(len(prompts)) as done:
            found = continuations(
                *(self.model, self.params, self.tokenizer, prompts),
                **{"start": edge, "end": edge, **settings},
                samples=samples or 1,
                on_batch=done,
            )
        return found if samples else [text for (text,) in found]

    def score(self, texts, *, prefix: str | None = None) -> pd.DataFrame:
        """How likely the model finds each text: ``log_prob`` (nats), and per token.

        Without a ``data.separator`` and without a prefix the first token is what the
        others are judged by, and does not count.

        Args: prefix: in front of every text, tokenised apart; it does not count.
        """
        texts = listed(texts, "score")
        edge = saved.separator(self)
        (front,) = probes.started(self.tokenizer, [prefix or ""], edge).rows
        rows = probes.started(self.tokenizer, texts, None).rows
        rows = [np.concatenate([front, row]) for row in rows]
        parts = self.model, self.params
        with counted(len(rows)) as done:
            found = scoring.next_log_probs(*parts, rows, on_batch=done)
        return score_table(texts, [x[max(len(front) - 1, 0) :] for x in found])

    def _probes(self, texts, method):
        texts = listed(texts, method)
        return probes.started(self.tokenizer, texts, saved.separator(self))
