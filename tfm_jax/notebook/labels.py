"""Trained models that give texts labels, in a notebook."""

import json

import jax
import numpy as np
import pandas as pd

from tfm_jax.infer import probing
from tfm_jax.notebook.run import TextRun, are_pairs


class LabelledRun(TextRun):
    """A model that has learnt labels; their names are ``labels``."""

    __slots__ = ()

    @property
    def labels(self) -> list[str]:
        """Names in the order of the model's outputs; [] if it predicts a number."""
        report = json.loads((self.path / "data_report.json").read_text("utf-8"))
        return report["train"]["labels"]


class ClassifyRun(LabelledRun):
    """A model that tells classes of texts, or pairs of texts, apart."""

    __slots__ = ()

    def classify(self, texts) -> pd.DataFrame:
        """Probability of each label, a column each; or ``score`` if that was learnt.

        Args: texts: texts, or (first, second) pairs, as the run has learnt.
        Returns: a row a text, which is its index.
        """
        texts = list(texts)
        pairs, learnt = are_pairs(texts), bool(self.config.data.layout().second)
        if len(texts) and pairs != learnt:
            kinds = ("single texts", "pairs of texts")
            raise ValueError(
                f"the run has learnt {kinds[learnt]}, these are {kinds[pairs]}"
            )
        logits = self._over(
            probing.label_logits, self._probes(texts, "classify")
        ).reshape(len(texts), -1)
        index = pd.MultiIndex.from_tuples(texts) if pairs else list(texts)
        if not self.labels:
            return pd.DataFrame({"score": logits[:, 0]}, index=index)
        chances = np.asarray(jax.nn.softmax(logits, axis=-1))
        return pd.DataFrame(chances, columns=self.labels, index=index)
