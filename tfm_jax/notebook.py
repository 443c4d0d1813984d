"""Trained models in a notebook: ``run = load_run("runs/n")``, then ask it things."""

import dataclasses
import html
from pathlib import Path

import jax
import pandas as pd

from tfm_jax.interop import Imported, load_huggingface
from tfm_jax.interop.generation import Special
from tfm_jax.train import evaluate, pictures, saved
from tfm_jax.train.experiment import Experiment
from tfm_jax.train.log import read_history

__all__ = ["Run", "load_huggingface", "load_run"]


def load_run(path, *, ema: bool | None = None) -> "Run":
    """Loads a workdir (its newest sound checkpoint) or one checkpoint of it.

    Any machine will do, whatever devices the run had. Nothing of the run is executed:
    its configuration is checked JSON and its arrays are compared with their sha256.

    Args:
        path: workdir, or a folder below its ``checkpoints`` or ``averaged``.
        ema: take the moving average; by default where the run keeps one.
    Raises: FileNotFoundError, CorruptCheckpoint, CheckpointMismatch, ConfigError.
    """
    return Run(*saved.load(path, ema=ema))


class Run(saved.Saved):
    """A trained model: ``path``, ``config``, ``model``, ``params``, ``tokenizer``.

    ``model``, ``params`` and ``logits`` are used like those of ``load_huggingface``.
    """

    __slots__ = ()

    @property
    def config(self) -> Experiment:
        """Everything the run was started with: ``run.config.model.norm``."""
        return self.experiment

    @property
    def workdir(self) -> Path:
        return self.path.resolve().parents[1]

    @property
    def history(self) -> pd.DataFrame:
        """What the run has logged so far: ``step``, ``kind`` and the metrics.

        Raises: FileNotFoundError if the checkpoint lies outside of its workdir.
        """
        return pd.DataFrame(read_history(self.workdir))

    def translate(self, lines, **settings) -> list[str]:
        """The best translation of each line.

        Args:
            lines: plain text, one sentence each.
            settings: other values for fields of ``config.eval``: ``beam=4``.
        """
        if isinstance(lines, str):
            raise TypeError("lines is one string; write translate([sentence])")
        cfg = dataclasses.replace(self.config.eval, **settings)
        changed = self._replace(experiment=self.config._replace(eval=cfg))
        return saved.Saved.translate(changed, lines)

    def logits(self, source, target):
        """Teacher forcing: source [B, S] and target [B, T] ids -> [B, T, V] float32.

        Source rows end in EOS and are padded behind it; target rows begin with BOS.
        """
        imported = Imported(
            self.config.model, self.model, self.params, Special(), force_eos=False
        )
        return imported.logits(source, target)

    def attention(self, source: str, target: str | None = None):
        """Who looks at whom in every layer and head: ``pictures.AttentionMaps``.

        Args: target: what is predicted; by default the model's own translation.
        """
        source = self.normalizer("source").apply(source)
        parts = self.model, self.params, self.tokenizer
        if target is None:
            (target,) = evaluate.translate(*parts, [source], self.config.eval)
        else:
            target = self.normalizer("target").apply(target)
        return pictures.attention_maps(*parts, source, target)

    def plot(self):
        """The learning curve, a matplotlib figure."""
        return pictures.curve(read_history(self.workdir))

    def __repr__(self):
        count = sum(x.size for x in jax.tree.leaves(self.params))
        data = self.config.data
        return (
            f"Run({str(self.path)!r}): {self.config.model_name}, "
            f"{count / 1e6:.2f} M parameters, "
            f"{data.source_language!r} to {data.target_language!r}"
        )

    def _repr_html_(self):
        return f"<code>{html.escape(repr(self))}</code>"
