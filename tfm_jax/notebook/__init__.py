"""Trained models in a notebook: ``run = load_run("runs/n")``, then ask it things."""

from pathlib import Path

from tfm_jax.interop import load_huggingface
from tfm_jax.notebook.causal import CausalRun
from tfm_jax.notebook.denoise import DenoiseRun
from tfm_jax.notebook.images import ClassifyImagesRun
from tfm_jax.notebook.labels import ClassifyRun, SpanRun, TagRun
from tfm_jax.notebook.retrieval import RetrievalRun
from tfm_jax.notebook.run import Run, TextRun
from tfm_jax.notebook.translation import TranslationRun
from tfm_jax.notebook.visual import VisualRun
from tfm_jax.notebook.words import JointRun, MaskedRun, ReplacedRun
from tfm_jax.runs import saved

__all__ = ["RUNS", "Run", "load_huggingface", "load_run"]

RUNS = {  # task -> what a run that has learnt it can be asked
    "translation": TranslationRun,
    "causal_lm": CausalRun,
    "masked_lm": MaskedRun,
    "replaced_tokens": ReplacedRun,
    "replaced_asked_tokens": ReplacedRun,
    "replace_mlm": JointRun,
    "all_tokens_mlm": JointRun,
    "classify": ClassifyRun,
    "classify_images": ClassifyImagesRun,
    "denoise": DenoiseRun,
    "tag": TagRun,
    "span": SpanRun,
    "visual_lm": VisualRun,
    "retrieval": RetrievalRun,
}


def load_run(path: str | Path, *, ema: bool | None = None) -> Run:
    """Loads a workdir (its newest sound checkpoint) or one checkpoint of it.

    Any machine will do, whatever devices the run had. Nothing of the run is executed:
    its configuration is checked JSON and its arrays are compared with their sha256.

    Args:
        path: workdir, or a folder below its ``checkpoints`` or ``averaged``.
        ema: take the moving average; by default where the run keeps one.
    Returns: a run of the class that RUNS has for its task; of somebody else's task one
        that is asked what any model of text is.
    Raises: FileNotFoundError, CorruptCheckpoint, CheckpointMismatch, ConfigError.
    """
    found = saved.load(path, ema=ema)
    return RUNS.get(found.experiment.task, TextRun)(*found)
