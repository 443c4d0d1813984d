"""Modes of the command line that read images, or draw them."""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from tfm_jax.config import ConfigError, from_flag, no_choice
from tfm_jax.data.errors import DataError
from tfm_jax.data.sources.text_files import lines_of, read_lines
from tfm_jax.runs import pictures, saved
from tfm_jax.runs.images import answered, classified, retrieved
from tfm_jax.runs.log import counted
from tfm_jax.runs.process.exits import one_line
from tfm_jax.terminal import say, shown
from tfm_jax.train.chosen import chosen
from tfm_jax.workloads import denoise

CHUNK = 1024  # images read at a time
SHOWN = 5  # labels or texts of an image


def classify(
    workdir: str | Path,
    *,
    config: Any,
    checkpoint: int | None = None,
    input: str | None = None,
    stdin: TextIO,
    stdout: Any,
) -> None:
    """The likeliest labels of image files, and how probable they are, on ``stdout``.

    A line for each: its path, label, probability, label, probability, ..., with tabs
    between them.

    Args: input: files and folders between commas; None: one a line from ``stdin``.
    """
    run = chosen(workdir, config, checkpoint)
    if (task := run.experiment.task) != "classify_images":
        raise ConfigError(
            f"--mode=classify is for classify_images; the run learnt {task}"
        )
    names = saved.label_names(run)
    for chunk in _image_files(input, stdin):
        probabilities = classified.probabilities(run, classified.read(run, chunk))
        for path, chances in zip(chunk, probabilities, strict=True):
            best = np.argsort(-chances, kind="stable")[:SHOWN]
            named = (f"{names[label]}\t{chances[label]:.4f}" for label in best)
            if not say("\t".join([str(path), *named]), file=stdout, kept="\t"):
                return


def caption(
    workdir: str | Path,
    *,
    config: Any,
    checkpoint: int | None = None,
    input: str | None = None,
    question: str | None = None,
    stdin: TextIO,
    stdout: Any,
) -> None:
    """What the model writes of image files, on ``stdout``: path, tab, text.

    Args: input: see ``classify``. question: about each; None: captions are written.
    """
    run = chosen(workdir, config, checkpoint)
    if (task := run.experiment.task) not in ("visual_lm", "retrieval"):
        raise ConfigError(
            f"--mode=caption is for visual_lm and retrieval; the run learnt {task}"
        )
    if question and task != "visual_lm":
        raise ConfigError(
            f"--question={question!r} is for visual_lm; the run learnt {task}"
        )
    for chunk in _image_files(input, stdin):
        asked = [[(path, question or "", "")] for path in chunk]
        for path, text in zip(chunk, answered.answers(run, asked), strict=True):
            if not say(f"{path}\t{text}", file=stdout, kept="\t"):
                return


def retrieve(
    workdir: str | Path,
    *,
    config: Any,
    checkpoint: int | None = None,
    input: str | None = None,
    texts: str | None = None,
    count: int | None = None,
    rerank: int = 0,
    stdin: TextIO,
    stdout: Any,
) -> None:
    """The texts most similar to image files, the best first, on ``stdout``.

    A line for each: its path, text, score, text, score, ..., with tabs between them.

    Args:
        input: files and folders between commas.
        texts: a file of a text a line; None: ``stdin``. Blank lines do not count.
        count: of texts a line, by default ``SHOWN``.
        rerank: see ``retrieved.scores``, of the texts for each image.
    """
    if input is None:
        raise ConfigError("--mode=retrieve needs --input=FILE,FOLDER,... with images")
    run = chosen(workdir, config, checkpoint)
    if (task := run.experiment.task) != "retrieval":
        raise ConfigError(f"--mode=retrieve is for retrieval; the run learnt {task}")
    if rerank and rerank < (count or SHOWN):
        raise ConfigError(
            f"--rerank={rerank} must be at least --count={count or SHOWN}, or 0"
        )
    if texts is None:
        lines = [line for line, _ in lines_of(stdin.buffer, "standard input", "error")]
    else:
        lines, _ = read_lines(texts, "--texts", "error")
    asked = [line for line in lines if line.strip()]
    if not asked:
        raise DataError(f"{texts or 'standard input'} has no text; give one a line")
    for chunk in _image_files(input, stdin):
        parts = run, classified.read(run, chunk), asked
        scores = retrieved.scores(*parts, rerank=rerank, of_each=("text",))
        order = np.argsort(-scores, axis=1, kind="stable")[:, : count or SHOWN]
        for path, each, best in zip(chunk, scores, order, strict=True):
            scored = (f"{shown(asked[n], '')}\t{each[n]:.4f}" for n in best)
            if not say("\t".join([str(path), *scored]), file=stdout, kept="\t"):
                return


def _image_files(input: str | None, stdin: TextIO) -> Iterator[list[Path]]:
    """Chunks of the files that are named between commas, or one a line."""
    paths: Iterator[Path]
    if input is None:
        lines = lines_of(stdin.buffer, "standard input", "error")
        paths = (Path(line) for line, _ in lines if line.strip())
    else:
        paths = iter(classified.files(classified.named(input)))
    while chunk := list(itertools.islice(paths, CHUNK)):
        yield chunk


def sample(
    workdir: str | Path,
    *,
    config: Any,
    checkpoint: int | None = None,
    labels: str | None = None,
    count: int | None = None,
    output: str | None = None,
) -> None:
    """Images that a denoising model draws, into a file.

    Image i depends on the ``seed`` of the configuration, i and its label alone.

    Args:
        labels: class names between commas, conditioned on in turn; None: all of them.
        count: of images; None: one of each label.
        output: see ``pictures.FILES``.
    """
    if output is None or Path(output).suffix not in pictures.FILES:
        files = " or ".join(f"FILE{suffix}" for suffix in pictures.FILES)
        raise ConfigError(f"--mode=sample needs --output={files}, not {output}")
    _check_output(Path(output))
    run = chosen(workdir, config, checkpoint)
    if (task := run.experiment.task) != "denoise":
        raise ConfigError(f"--mode=sample is for denoise; the run learnt {task}")
    known = saved.label_names(run)[: run.experiment.model.labels]
    if labels and not known:
        raise ConfigError(f"--labels={labels}; the run was trained without labels")
    asked = from_flag(labels, tuple[str, ...], "--labels") if labels else known
    for name in asked:
        if name not in known:
            raise ConfigError(no_choice("--labels", name, tuple(known)))
    classes = [known.index(name) for name in asked] or [0]
    drawn = np.resize(classes, count or len(classes))
    with counted(len(drawn)) as done:
        parts = run.experiment, run.model, run.params, drawn
        images = denoise.sample(*parts, seed=run.experiment.seed, on_batch=done)
    of_each = np.array(known)[drawn] if known else drawn
    pictures.FILES[Path(output).suffix](images, of_each, Path(output))
    say(f"see {output}")


def _check_output(path):
    """A file can be written there; its folder is there then. Raises: ConfigError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--output={path}: {one_line(error)}") from error
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise ConfigError(f"--output={path} cannot be written; name another file")
