"""Scores of a trained model on held-out text; its training files may be gone."""

import dataclasses
from pathlib import Path

from tfm_jax.config import ConfigError
from tfm_jax.data.errors import DataError
from tfm_jax.mesh import Config, make_mesh, using
from tfm_jax.runs import judges, saved
from tfm_jax.runs.images import classified

FILES = ("files", "tsv")  # values of data.source that read files
TEXTS = ("folder", "pydocs", "recall")  # of running text, which a file holds as well


def evaluate(
    run: saved.Saved, file: str | Path | None = None, *, mesh: Config | None = None
) -> dict:
    """Scores of the run's test set, or of its validation set where it has none.

    Args:
        file: scored instead, read as the run's validation files are.
        mesh: devices; by default those of the run.
    Returns: ``split``, the file or which set it is; and what training reports of it.
    Raises: DataError for files that cannot be read, or if there is nothing to score;
        ConfigError for a ``file`` if the run has read its data from none.
    """
    experiment = run.experiment.reading(run.experiment.data)
    workload = experiment.workload
    if file is not None:
        experiment = experiment._replace(data=_reading(experiment.data, str(file)))
    beside = workload.compared(experiment) if file is None else ()
    for split in ("test", "valid") if file is None else ("valid",):
        names = saved.label_names(run)
        splits = *beside, split
        data = workload.prepare(experiment, run.tokenizer, splits=splits, names=names)
        if getattr(data, split):
            break
    else:
        raise DataError("the run has no held-out data; name a file to score")
    cfg = mesh or experiment.mesh
    made = make_mesh(cfg)
    with using(cfg, made, rules=()):
        judge = judges.read(experiment) if file is None else None
        evaluator = workload.make_evaluator(experiment, data, made, judge)
        scored = evaluator.final(run.params, split)
    return {"split": split if file is None else str(file)} | scored.scores


def _reading(data, file):
    """The data section with ``file`` for its validation set and no other file."""
    if hasattr(data, "reading"):
        try:
            return data.reading(*classified.named(file))
        except ValueError as error:
            raise ConfigError(f"{file}: {error}") from error
    source = getattr(data, "source", FILES[0])
    if source not in (*FILES, *TEXTS):
        raise ConfigError(
            f"data.source={source!r} reads no files; for {file} set data.source and "
            "what says where its texts and labels stand"
        )
    changed = dict(train_files=(), valid_files=(file,), test_files=())
    if source in TEXTS:
        changed["source"] = FILES[0]
    return dataclasses.replace(data, **changed)
