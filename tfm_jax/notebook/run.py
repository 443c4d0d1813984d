"""What all trained models in a notebook have in common."""

import html
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
from jax.typing import ArrayLike

from tfm_jax import mesh
from tfm_jax.data.rows import unlabelled
from tfm_jax.decode import probing
from tfm_jax.interop.imported import ImportedText
from tfm_jax.runs import heldout, pictures, saved
from tfm_jax.runs.log import NAME as RECORD
from tfm_jax.runs.log import counted, read_history
from tfm_jax.settings.experiment import Experiment


class Run(saved.Saved):
    """A trained model: ``path``, ``config``, ``model``, ``params``, ``tokenizer``.

    ``model``, ``params`` and ``logits`` are used like those of ``load_huggingface``.
    """

    __slots__ = ()

    @property
    def config(self) -> Experiment:
        """Everything the run was started with, ``run.config.model.norm`` and so on."""
        return self.experiment

    @property
    def workdir(self) -> Path:
        """Of the run; its checkpoints, or this one, may lie elsewhere and be linked."""
        named = Path(os.path.abspath(self.path)).parents[1]
        linked = (named / RECORD).exists()
        return named if linked else self.path.resolve().parents[1]

    @property
    def history(self) -> pd.DataFrame:
        """What the run has logged so far, with ``step``, ``kind`` and the metrics.

        Raises: FileNotFoundError if the checkpoint lies outside of its workdir.
        """
        return pd.DataFrame(read_history(self.workdir))

    def plot(self) -> Any:
        """The learning curve, a matplotlib figure."""
        return pictures.curve(read_history(self.workdir), self.config.workload)

    def about(self) -> str:
        """What it has learnt, in words."""
        return self.config.task

    def __getattr__(self, name):
        from tfm_jax.notebook import RUNS  # whose classes are made of this one

        able = [task for task, kind in RUNS.items() if hasattr(kind, name)]
        if name.startswith("_") or not able:
            raise AttributeError(f"a run has no {name!r}")
        offered = [n for n in dir(type(self)) if n[0] != "_" and not hasattr(Run, n)]
        raise AttributeError(
            f"{name} is for runs of task {' or '.join(able)}; this one has learnt "
            f"{self.config.task} and offers {', '.join(offered)}"
        )

    def __repr__(self):
        count = sum(x.size for x in jax.tree.leaves(self.params))
        return (
            f"Run({str(self.path)!r}): {self.config.model_name}, "
            f"{count / 1e6:.2f} M parameters, {self.about()}"
        )

    def _repr_html_(self):
        return f"<code>{html.escape(repr(self))}</code>"


class ScoredRun(Run):
    """A model of one input, which any held-out file scores."""

    __slots__ = ()

    def evaluate(self, file: str | Path | None = None) -> dict:
        """Scores of a file built as the run's validation files; see ``runs.heldout``.

        Args: file: by default what ``--mode=eval`` scores.
        """
        return heldout.evaluate(self, file, mesh=mesh.Config(data=1))


class TextRun(ScoredRun):
    """A model of one-sided text."""

    __slots__ = ()

    def logits(
        self,
        tokens: ArrayLike,
        lengths: ArrayLike | None = None,
        types: ArrayLike | None = None,
    ) -> Any:
        """What the model returns for ids [B, T]; see ``ImportedText.logits``."""
        imported = ImportedText(self.config.model, self.model, self.params, {})
        return imported.logits(tokens, lengths, types)

    def embed(self, texts: Any, *, pool: str = "mean") -> np.ndarray:
        """A vector [n, D] float32 of each text or (first, second) pair of texts.

        Args: pool: "mean" of the tokens' states, special tokens included, or that of
            the "first" or "last".
        Raises: ValueError for a text without any token.
        """
        asked = self._probes(texts, "embed")
        return self._over(probing.embed, asked, pool=pool)

    def _probes(self, texts: Any, method: str) -> unlabelled.Probes:
        """Texts as the model was trained to read them."""
        firsts, seconds = sides(texts, method)
        frame = getattr(self.config.data, "frame", "bert")
        return unlabelled.framed(self.tokenizer, firsts, seconds, frame=frame)

    def _over(self, function, asked, *arguments, **options):
        """A function of ``decode`` on ``asked``, with a bar if there is much."""
        parts = self.model, self.params, asked.rows
        with counted(len(asked.rows)) as done:
            return function(
                *parts, *arguments, types=asked.types, on_batch=done, **options
            )


def listed(texts: Any, method: str, name: str = "texts") -> list[str]:
    """Raises: TypeError for a single string, and for what is no string."""
    if isinstance(texts, str):
        raise TypeError(f"{name} is one string; write {method}([text])")
    texts = list(texts)
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(f"{name} has {text!r}, which is no string")
    return texts


def are_pairs(texts: Any) -> bool:
    """Whether these are (first, second) pairs of texts."""
    return bool(len(texts)) and not isinstance(texts[0], str)


def sides(texts: Any, method: str) -> tuple[list[str], list[str] | None]:
    """(firsts, seconds or None) of texts or pairs of texts."""
    if not are_pairs(texts):
        return listed(texts, method), None
    for pair in texts:
        if isinstance(pair, str) or len(pair) != 2:
            raise TypeError(f"texts has {pair!r}, which is no (first, second) pair")
        listed(pair, method)
    return [first for first, _ in texts], [second for _, second in texts]


def check_scored(texts: Sequence[Any], counts: Sequence[int], hint: str = "") -> None:
    """Raises: ValueError for a text of which no token is scored: it has no mean."""
    for number, (text, count) in enumerate(zip(texts, counts, strict=True)):
        if count < 1:
            raise ValueError(f"text {number}, {text!r}, has no token to score{hint}")


def score_table(texts: Sequence[Any], log_probs: Sequence[np.ndarray]) -> pd.DataFrame:
    """A table of sums and means of log-probabilities [T] of each text."""
    found = pd.DataFrame(
        {
            "tokens": [len(one) for one in log_probs],
            "log_prob": [float(one.sum()) for one in log_probs],
        },
        index=list(texts),
    )
    found["per_token"] = found["log_prob"] / found["tokens"]
    return found.assign(perplexity=np.exp(-found["per_token"]))
