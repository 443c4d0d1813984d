"""Trained models that fill in words, or doubt them, in a notebook."""

from typing import Any

import numpy as np
import pandas as pd

from tfm_jax.data.rows import unlabelled
from tfm_jax.decode import probing, scoring
from tfm_jax.models import MODELS
from tfm_jax.notebook.run import TextRun, check_scored, listed, score_table
from tfm_jax.runs.log import counted


class MaskedRun(TextRun):
    """A model that fills in words."""

    __slots__ = ()

    def fill_mask(self, texts: Any, *, top: int = 5) -> pd.DataFrame:
        """The likeliest words at every [MASK], each mask on its own.

        Args: texts: with one ``[MASK]`` or more in each. top: words a mask.
        Returns: a row a word: ``text`` and ``mask`` (numbers from 0), ``token``,
            ``probability``, and the text ``filled`` with it, other masks with their
            likeliest word.
        """
        texts = listed(texts, "fill_mask")
        for text in texts:
            if unlabelled.MASK not in text:
                raise ValueError(f"text {text!r} has no {unlabelled.MASK}")
        (mask,) = self.tokenizer.ids_of(unlabelled.MASK)
        asked = unlabelled.framed(
            self.tokenizer,
            texts,
            frame=getattr(self.config.data, "frame", "bert"),
            encode=lambda some: unlabelled.encode_masked(self.tokenizer, some),
        )
        forbid = self.tokenizer.unspelled(self.config.model.vocab)
        found = self._words()._over(
            probing.fill_masks, asked, mask, top=top, forbid=forbid
        )
        tables = [self._filled(*pair) for pair in zip(asked.rows, found, strict=True)]
        tables = [t.assign(text=n) for n, t in enumerate(tables)]
        if not tables:
            return pd.DataFrame(columns=_FILLED)
        return pd.concat(tables, ignore_index=True)

    def score(self, texts: Any) -> pd.DataFrame:
        """Pseudo-log-likelihood of each text or pair: ``log_prob`` (nats), per token.

        Source: Salazar et al. 2020, arXiv:1910.14659: each token is masked alone.
        Raises: ValueError for a text that has no token of its own.
        """
        asked = self._probes(texts, "score")
        check_scored(texts, [len(columns) for columns in asked.inside])
        (mask,) = self.tokenizer.ids_of(unlabelled.MASK)
        with counted(sum(map(len, asked.inside))) as done:
            found = scoring.masked_log_probs(
                *(self.model, self.params, asked.rows, asked.inside, mask),
                types=asked.types,
                on_batch=done,
            )
        return score_table(texts, found)

    def _words(self):
        """The part of the model that knows words."""
        return self

    def _filled(self, row, guesses):
        """A table of the words for the masks of one row."""
        masks, top = guesses.tokens.shape
        rows = np.tile(row, (masks, top, 1))
        rows[..., guesses.places] = guesses.tokens[:, 0]
        rows[np.arange(masks), :, guesses.places] = guesses.tokens
        return pd.DataFrame(
            {
                "text": 0,
                "mask": np.repeat(np.arange(masks), top),
                "token": self.tokenizer.tokens(guesses.tokens.ravel()),
                "probability": guesses.probabilities.ravel(),
                "filled": self.tokenizer.decode(rows.reshape(masks * top, -1)),
            }
        )


class JointRun(TextRun):
    """ELECTRA's generator fills in words."""

    __slots__ = ()
    fill_mask, _filled = MaskedRun.fill_mask, MaskedRun._filled

    def _words(self):
        family = MODELS[self.config.model_name]
        cfg, params = family.towers["generator"](self.config.model, self.params)
        return self._replace(model=family.model(cfg), params=params)


class ReplacedRun(JointRun):
    """And its discriminator doubts them."""

    __slots__ = ()

    def detect_replaced(self, texts: Any) -> pd.DataFrame:
        """``probability`` that each ``token`` was replaced; ``text`` is a number."""
        asked = self._probes(texts, "detect_replaced")
        found = self._over(probing.replaced, asked)
        records = []
        for text, (row, columns, doubts) in enumerate(
            zip(asked.rows, asked.inside, found, strict=True)
        ):
            labels = self.tokenizer.tokens(row[columns])
            chances = doubts[columns].tolist()
            records += [(text, *one) for one in zip(labels, chances, strict=True)]
        return pd.DataFrame(records, columns=["text", "token", "probability"])


_FILLED = ["text", "mask", "token", "probability", "filled"]
