"""Saved: a run or a checkpoint of it, loaded to be used, on whatever machine."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from tfm_jax import bounded_json
from tfm_jax.config import from_json
from tfm_jax.data.tokenizers.normalize import Normalizer
from tfm_jax.layers.layout import to_unrolled
from tfm_jax.runs import resume
from tfm_jax.runs.process.exits import CorruptCheckpoint
from tfm_jax.runs.storage import checkpoint
from tfm_jax.settings.experiment import Experiment, resolve
from tfm_jax.workloads.translation import translate as translate_normalised


class Saved(NamedTuple):
    """A trained model with all that is needed to use it.

    Attributes:
        path: the checkpoint. experiment: its configuration.
        model: unrolled module. params: nested dict of float32 arrays for it.
        tokenizer: of the run; of a translation for both sides; None without text.
    """

    path: Path
    experiment: Experiment
    model: Any
    params: dict
    tokenizer: Any


def load(path: str | Path, *, config: Any = None, ema: bool | None = None) -> Saved:
    """Loads a workdir (its newest sound checkpoint) or one checkpoint.

    Args:
        path: workdir, or a folder below its ``checkpoints`` or ``averaged``.
        config: instead of the checkpoint's own; see ``resume.used``.
        ema: take the moving average; by default where the run keeps one.
    Raises: CorruptCheckpoint if nothing sound is there; CheckpointMismatch; ConfigError
        for a ``config`` that uses the parameters otherwise than they were trained.
    """
    folder = checkpoint.find(path)
    trained = from_json(bounded_json.read_bytes(folder / "config.json"))
    experiment = resolve(trained)
    if config is not None:
        experiment = resume.used(experiment, resolve(config))
    unrolled = dataclasses.replace(experiment.model, layout="unrolled")
    experiment = experiment._replace(model=unrolled)
    keeps = experiment.train.ema_decay > 0 if ema is None else ema
    tokenizer = experiment.workload.tokenizer
    params = to_unrolled(checkpoint.load_params(folder, ema=keeps))
    leaves, structure = jax.tree.flatten(params)
    del params
    for i, leaf in enumerate(leaves):  # memory holds one of them twice, not all
        leaves[i] = jax.numpy.asarray(leaf)
    return Saved(
        path=folder,
        experiment=experiment,
        model=experiment.build_model(),
        params=jax.tree.unflatten(structure, leaves),
        tokenizer=tokenizer and tokenizer.load(folder / "tokenizer.json"),
    )


def normalizer(run: Saved, side: str) -> Normalizer:
    """Of "source" or "target" text of a translation."""
    data = run.experiment.data
    return Normalizer(data.normalize, getattr(data, f"{side}_language"))


def translate(run: Saved, lines: Sequence[str], **options: Any) -> list[str]:
    """Plain text of the best translation of each plain line."""
    apply, undo = normalizer(run, "source").apply, normalizer(run, "target").undo
    parts = run.model, run.params, run.tokenizer
    normal = [apply(line) for line in lines]
    translated = translate_normalised(*parts, normal, run.experiment.eval, **options)
    return [undo(line) for line in translated]


def label_names(run: Saved) -> list[str]:
    """Names in the order of the model's outputs; [] if it predicts no label.

    Numbers, if the model was trained elsewhere and its folder has no names.

    Raises: CorruptCheckpoint.
    """
    path = run.path / "data_report.json"
    count = getattr(run.experiment.model, "labels", 1)
    numbers = [str(label) for label in range(count)] if count > 1 else []
    try:
        report = bounded_json.read(path, dict)
        if "train" in report:
            names = report["train"].get("labels", [])
        else:
            names = report.get("imported", {}).get("labels") or numbers
    except (ValueError, AttributeError) as error:
        raise CorruptCheckpoint(f"{path}: {error}") from error
    if not (isinstance(names, list) and all(isinstance(n, str) for n in names)):
        raise CorruptCheckpoint(f"{path}: labels are no list of names")
    return names


def separator(run: Saved) -> int | None:
    """The token in front of every text and behind it, as the run has learnt it."""
    name = getattr(run.experiment.data, "separator", "")
    return run.tokenizer.ids_of(name)[0] if name else None
