"""What a workdir can be asked besides training it."""

import itertools
import json
from pathlib import Path
from typing import Any, TextIO

import jax
import jax.numpy as jnp

from tfm_jax import bounded_json
from tfm_jax.config import ConfigError, from_json
from tfm_jax.data import prepared
from tfm_jax.data.errors import DataError
from tfm_jax.data.rows.pairs import KIND
from tfm_jax.data.sources.bitext import Pairs, load_pairs
from tfm_jax.data.sources.text_files import lines_of, read_lines
from tfm_jax.decode.prompting import Prompting
from tfm_jax.mesh import Config as MeshConfig
from tfm_jax.mesh import make_mesh, put_batch, using
from tfm_jax.runs import heldout, prompted, resume, saved
from tfm_jax.runs.process import runtime
from tfm_jax.runs.process.exits import (
    CorruptCheckpoint,
    InfrastructureError,
)
from tfm_jax.runs.storage import arrays, weights
from tfm_jax.runs.storage.checkpoint import Checkpointer
from tfm_jax.runs.workdir import Lease, preflight
from tfm_jax.settings.experiment import resolve
from tfm_jax.terminal import say
from tfm_jax.train import program
from tfm_jax.train.chosen import chosen
from tfm_jax.train.image_modes import caption, classify, retrieve, sample

__all__ = [
    "average",
    "caption",
    "classify",
    "evaluate",
    "prompt",
    "replay",
    "retrieve",
    "sample",
    "translate",
]
CHUNK = 1024  # lines translated at a time
ATTEMPTS = 5  # to read checkpoints beside a training


def evaluate(
    workdir: str | Path,
    *,
    config: Any,
    checkpoint: int | None = None,
    input: str | None = None,
    reference: str | None = None,
) -> dict:
    """Scores the test set, or ``input`` against ``reference``; prints and returns."""
    run = chosen(workdir, config, checkpoint)
    if run.experiment.task != "translation":
        return _evaluate_text(run, input, reference)
    if (input is None) != (reference is None):
        raise ConfigError("--input and --reference belong together: name both files")
    if input is None or reference is None:
        pairs, _ = load_pairs(run.experiment.data, "test")
        if not pairs.source:
            raise DataError("the run has no test set; name --input and --reference")
    else:
        pairs = _pairs(run, input, reference)
    data = prepared.of_examples(
        KIND, run.experiment.data, run.tokenizer, {"test": pairs}, {"test": {}}
    )
    mesh = make_mesh(run.experiment.mesh)
    workload = run.experiment.workload
    evaluator: Any = workload.make_evaluator(run.experiment, data, mesh)
    with using(run.experiment.mesh, mesh, rules=()):
        scores = evaluator.loss(run.params, "test")
    text, _ = evaluator.translations(run.params, pairs)
    scores = {"checkpoint": str(run.path), "pairs": len(pairs.source)} | scores | text
    say(json.dumps(scores, indent=1))
    return scores


def _evaluate_text(run, input, reference):
    if reference is not None:
        raise ConfigError("--reference is for task=translation; --input has it all")
    scores = {"checkpoint": str(run.path)} | heldout.evaluate(run, input)
    say(json.dumps(scores, indent=1))
    return scores


def translate(
    workdir: str | Path,
    *,
    config: Any,
    checkpoint: int | None = None,
    stdin: TextIO,
    stdout: Any,
) -> None:
    """One sentence per line from ``stdin``, its translation on ``stdout``.

    Lines are those of files, see ``data.sources.text_files.lines_of``.
    """
    run = chosen(workdir, config, checkpoint)
    if (task := run.experiment.task) != "translation":
        raise ConfigError(f"--mode=translate is for translation; the run learnt {task}")
    invalid = run.experiment.data.invalid_utf8
    lines = (line for line, _ in lines_of(stdin.buffer, "standard input", invalid))
    for first in itertools.count(1, CHUNK):
        chunk = list(itertools.islice(lines, CHUNK))
        if not chunk:
            return
        try:
            translated = saved.translate(
                run,
                chunk,
                name=lambda n, first=first: f"standard input: line {first + n}",
            )
        except ValueError as error:
            raise DataError(str(error)) from error
        for line in translated:
            if not say(line, file=stdout, kept="\t"):
                return  # whoever read them has had enough


def prompt(
    workdir: str | Path,
    *,
    config: Any,
    checkpoint: int | None = None,
    task_file: str | None = None,
    examples_file: str | None = None,
    examples: int = 0,
    table: str | None = None,
    columns: str | None = None,
    words: str | None = None,
    **how: Any,
) -> dict:
    """Puts labelled texts to a language model in words; prints and returns scores.

    Args: how: template and scoring, see ``decode.prompting.Prompting``; None: its own.
    """
    run = chosen(workdir, config, checkpoint)
    if (task := run.experiment.task) != "causal_lm":
        raise ConfigError(f"--mode=prompt is for causal_lm; the run learnt {task}")
    if task_file is None or (examples and examples_file is None):
        raise ConfigError("--mode=prompt needs --task_file, and --examples a file too")
    layout = dict(table=table or "columns", columns=columns or "")
    given = {"task_file": task_file, "examples_file": examples_file}
    read = {
        name: prompted.read_examples(path, **layout, knob=f"--{name}")
        for name, path in given.items()
        if path is not None
    }
    how = {name: value.replace("\\n", "\n") for name, value in how.items() if value}
    pairs = [part.partition("=") for part in words.split(",")] if words else []
    if not all(equals for _, equals, _ in pairs):
        raise ConfigError(f"--words={words}; write NAME=WORD,NAME=WORD")
    how["words"] = {name: word for name, _, word in pairs}
    if len(how["words"]) < len(pairs):
        raise ConfigError(f"--words={words}: a name is given twice")
    try:
        result = prompted.few_shot(
            run,
            read["task_file"],
            read.get("examples_file", []),
            Prompting(examples=examples, **how),
        )
    except DataError:
        raise
    except ValueError as error:
        raise ConfigError(f"--mode=prompt: {error}") from error
    scores = {"checkpoint": str(run.path)} | result.summary
    say(json.dumps(scores, indent=1))
    return scores


def average(workdir: str | Path, *, config: Any, last: int) -> Path:
    """Averages the parameters of the newest checkpoints into ``workdir/averaged``.

    Source: Vaswani et al. 2017, section 6.1 (the last 5 for base, 20 for big).
    """
    del config
    newest, kind, params = _mean(Path(workdir, weights.DIRECTORY), last)
    names = ("config.json", "tokenizer.json", "data_report.json")
    files = [newest.path / name for name in names]
    extras = {file.name: file.read_bytes() for file in files if file.exists()}
    target, step = preflight(Path(workdir, "averaged")), int(newest.path.name)
    cfg, still = newest.experiment.checkpoint, newest.experiment.frozen
    with Lease(target), Checkpointer(target, cfg, still=still) as writer:
        writer.discard(step)
        writer.save(step, {kind: params}, extras=extras, wait=True)
        where = writer.path(step)
    say(f"{last} checkpoints averaged: {where}")
    return where


def _mean(folder: Path, last: int) -> tuple:
    """(newest run, "params" or "ema", their mean) of ``last`` sound checkpoints.

    A training in the same workdir deletes old checkpoints: then these are read again.
    """
    for _ in range(ATTEMPTS):
        there = weights.numbered(folder)
        try:
            paths = weights.newest_sound(folder, last)
            if len(paths) < last:
                raise ConfigError(
                    f"--last={last}, but {folder} has {len(paths)} sound checkpoints; "
                    "checkpoint.keep decides how many are kept"
                )
            newest = saved.load(paths[-1])
            ema = newest.experiment.train.ema_decay > 0
            mean = weights.average(paths, ema=ema)
            if all(path.exists() for path in paths):
                return newest, "ema" if ema else "params", mean
        except (FileNotFoundError, CorruptCheckpoint, ConfigError):
            if weights.numbered(folder) == there:
                raise
    raise InfrastructureError(
        f"the training in {folder.parent} deletes checkpoints before {last} are read; "
        f"checkpoint.keep must be well above --last={last}, or wait for its end"
    )


def replay(workdir: str | Path, *, config: Any) -> dict:
    """Computes the update again that a diverged run was stopped for.

    Prints and returns its metrics, and ``not_finite``: how many numbers of the gradient
    of each parameter are not, where there are any.
    """
    del config
    folder = resume.diverged(Path(workdir))
    experiment = resolve(from_json(bounded_json.read_bytes(folder / "config.json")))
    runtime.prepare(experiment.mesh.cpu_devices)
    functions = program.build(experiment)

    def again(state, batch):
        _, _, grads = functions.gradients(state, batch)
        bad = jax.tree.map(lambda g: jnp.sum(~jnp.isfinite(g)), grads)
        return functions.train_step(state, batch)[1], bad

    try:
        mesh = make_mesh(experiment.mesh)
    except ConfigError:  # of more machines, or another one
        mesh = make_mesh(MeshConfig(data=1), jax.devices()[:1])
    with using(experiment.mesh, mesh):
        abstract = functions.abstract(mesh)
        state, batch = resume.load_diverged(folder, experiment, abstract)
        state = jax.tree.map(
            lambda x, a: jax.device_put(x, a.sharding), state, abstract
        )
        recomputed = jax.jit(again)(state, put_batch(mesh, batch, leading=1))
    metrics, bad = jax.device_get(recomputed)
    result: dict[str, Any] = {"step": int(state.step) + 1}
    result |= {name: str(value) for name, value in metrics.items()}  # nan is no JSON
    counts = arrays.leaves(bad).items()
    result["not_finite"] = {name: int(count) for name, count in counts if count}
    say(json.dumps(result, indent=1))
    return result


def _pairs(run: Any, source: str, reference: str) -> Pairs:
    """Two files of equal length, as the model sees text."""
    invalid = run.experiment.data.invalid_utf8
    sources, _ = read_lines(source, "--input", invalid)
    references, _ = read_lines(reference, "--reference", invalid)
    if len(sources) != len(references):
        raise DataError(
            f"--input={source} has {len(sources)} lines, --reference={reference} has "
            f"{len(references)}"
        )
    apply = {side: saved.normalizer(run, side).apply for side in ("source", "target")}
    return Pairs(
        [apply["source"](line) for line in sources],
        [apply["target"](line) for line in references],
        references,
    )
