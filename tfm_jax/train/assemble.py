"""Assemble: from the description of a run to its data, programs and state."""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tfm_jax.config import to_json
from tfm_jax.data.batches import TrainBatches, train_batches
from tfm_jax.data.prepared import Prepared
from tfm_jax.mesh import on_this_host, own_rows, row_multiple
from tfm_jax.optim import layerwise
from tfm_jax.optim.schedules import unreached
from tfm_jax.runs import initial, judges, resume, sources
from tfm_jax.runs.extend import Length
from tfm_jax.runs.process import peers
from tfm_jax.runs.storage import weights
from tfm_jax.runs.storage.checkpoint import Checkpointer
from tfm_jax.runs.workdir import describe, replace
from tfm_jax.settings.experiment import Experiment
from tfm_jax.terminal import say
from tfm_jax.train import program
from tfm_jax.train.program import Compiled
from tfm_jax.train.state import TrainState, lag, moving
from tfm_jax.workloads.evaluator import Evaluator


class Assembled(NamedTuple):
    """A run that can make its next step.

    Attributes:
        experiment: with the vocabularies of its tokenizer.
        step: how many steps are made. scores: of its newest evaluation.
        length: what other ``train.total_steps`` than before do from here on, or None.
        data: prepared. batches: of training, standing at the next one.
        texts: files that say what the run is, name -> content.
        compiled: its functions on the mesh. evaluator: of the held-out data.
        state: before the next step.
    """

    experiment: Experiment
    step: int
    scores: dict
    length: Length | None
    data: Prepared
    batches: TrainBatches
    texts: dict[str, str]
    compiled: Compiled
    evaluator: Evaluator
    state: TrainState


def open_checkpoints(experiment: Experiment, workdir: Path) -> Checkpointer:
    """The checkpoints of a run in ``workdir``."""
    how = experiment.workload.scores, experiment.frozen
    return Checkpointer(workdir / weights.DIRECTORY, experiment.checkpoint, *how)


def assemble(
    experiment: Experiment,
    workdir: Path,
    mesh: jax.sharding.Mesh,
    checkpoints: Checkpointer,
    stop: Any,
    *,
    like: Any = None,
    given: Collection[str] | None = None,
    read_initial: Callable[[str], sources.Source] = sources.read,
) -> Assembled:
    """Data, programs and state of a run, from where its checkpoints left it.

    Args:
        stop: ``Preemption``; before there is anything to save, it ends the process.
        like: ``Training`` of the same program and data, other seed or rate; what was
            prepared and compiled for it serves this one too.
        given, read_initial: see ``loop.train``.
    Raises: ConfigError if ``experiment`` cannot go on from there or does not fit the
        data; DataError; CorruptCheckpoint.
    """
    origin = _origin_of(experiment, checkpoints, given, read_initial)
    experiment, workload = origin.experiment, origin.experiment.workload
    with stop.nothing_to_save():
        judge = judges.read(experiment)
        data = like.data if like else workload.prepare(experiment, origin.tokenizer)
        experiment = experiment.complete(data.tokenizer, origin.model)
        state = origin.extras.get("data.json", {})
        rows = state.get("batch_rows", ())
        batches = batches_from(experiment, data, mesh, 0, batch_rows=rows)
    if origin.source:
        labels = data.report["train"].get("labels", ())
        initial.check_labels(origin.source, labels)
    if origin.extras:
        resume.go_on(batches, state)
    peers.require_agreement("data", batches.get_state())
    texts = {
        "config.json": to_json(experiment.as_dict()),
        "data_report.json": to_json(data.report),
    }
    if data.tokenizer:
        texts["tokenizer.json"] = data.tokenizer.to_json()
    if jax.process_index() == 0:
        describe(workdir, texts)
    compiled = program.on_mesh(program.build(experiment), mesh)
    if like:
        compiled = compiled._replace(init=like.compiled.init)
        evaluator = like.evaluator
    else:
        experiment.say_if_rows_cost_the_kernel()
        with stop.nothing_to_save():
            evaluator = workload.make_evaluator(experiment, data, mesh, judge)
    if origin.extras:
        state = checkpoints.restore(origin.step, compiled.abstract)
    else:
        state = compiled.init(experiment.seed)
    if origin.source:
        state = _started_from(origin.source, experiment, state, compiled, workdir)
    return Assembled(
        experiment,
        step=origin.step,
        scores=origin.scores,
        length=origin.length,
        data=data,
        batches=batches,
        texts=texts,
        compiled=compiled,
        evaluator=evaluator,
        state=state,
    )


class Origin(NamedTuple):
    """What there is before the data is read.

    Attributes:
        experiment: the run; of a resumed one with all vocabularies.
        step: how many are made. extras: files of the checkpoint after that step, {} of
            a run that begins. scores: of its newest evaluation.
        source: whose parameters a new run takes, or None.
        tokenizer: of the checkpoint or the source, or None.
        length: see ``Assembled``.
    """

    experiment: Experiment
    step: int = 0
    extras: dict = {}
    scores: dict = {}
    source: sources.Source | None = None
    tokenizer: Any = None
    length: Length | None = None

    @property
    def model(self) -> Any:
        """Configuration of the model whose parameters are taken, or None."""
        return self.source and self.source.model


def _origin_of(
    experiment: Experiment,
    checkpoints: Checkpointer,
    given: Collection[str] | None,
    read_initial: Callable[[str], sources.Source],
) -> Origin:
    newest = checkpoints.latest_good()
    if newest is not None:
        path, extras = checkpoints.path(newest), checkpoints.extras(newest)
        if "data.json" in extras:
            return _resumed(experiment, newest, path, extras, checkpoints, given)
        # a model that was imported has made no step
        experiment = experiment._replace(init_from=str(path))
    return beginning(experiment, given, read_initial)


def beginning(
    experiment: Experiment,
    given: Collection[str] | None,
    read_initial: Callable[[str], sources.Source],
) -> Origin:
    """What a new run has before its data is read.

    Args: given, read_initial: see ``loop.train``.
    """
    sources.check_frozen(experiment)
    if not experiment.init_from:
        return Origin(experiment)
    source = sources.read_all(experiment, read_initial)
    if given is not None:
        experiment = _adopted(experiment, source, given)
    initial.check(experiment, source)
    return Origin(experiment, source=source, tokenizer=source.tokenizer)


def _adopted(experiment, source, given):
    """With the architecture of ``source``; says what of it was another one."""
    experiment, taken = initial.adopt(experiment, source.model, given)
    if taken and jax.process_index() == 0:
        fields = (
            f"model.{k}={there!r} ({here!r} here)" for k, (here, there) in taken.items()
        )
        say(f"init_from={source.path}: its architecture is taken: {', '.join(fields)}")
    return experiment


def _resumed(experiment, step, path, extras, checkpoints, given):
    before = resume.experiment_of(extras, path)
    resume.check_kind(before, experiment, path)
    if not experiment.init_from and Path(before.init_from).parent == path.parent:
        experiment = experiment._replace(init_from=before.init_from)  # imported
    if before.init_from and given is not None:
        experiment, _ = initial.adopt(experiment, before.model, given)
    tokenizer = experiment.workload.tokenizer
    tokenizer = tokenizer and tokenizer(extras["tokenizer.json"])
    experiment = experiment.complete(tokenizer, before.model)
    length = resume.check_continues(before, experiment, step)
    scores = checkpoints.metrics(step)
    named = dict(tokenizer=tokenizer, length=length)
    return Origin(experiment, step, extras, scores, **named)


def _started_from(source, experiment, state, compiled, workdir):
    """A new state with the parameters of ``source`` where they fit; says which."""
    fresh = jax.tree.map(np.asarray, on_this_host(state.params))
    params, report = initial.merge(experiment, source, fresh)
    params = initial.place(params, compiled.placed.params)
    ema = state.ema and jax.tree.map(jnp.copy, moving(params, state.ema))
    if jax.process_index() == 0:
        say(f"init_from={source.path}: {report}")
        replace(workdir / "init_from.json", report._asdict())
    return state._replace(params=params, ema=ema)


def headline(made: Assembled, mesh: jax.sharding.Mesh) -> str:
    """One line that says what is about to run, and on what."""
    experiment, params = made.experiment, made.state.params
    count = sum(x.size for x in jax.tree.leaves(params))
    is_frozen = layerwise.frozen("|".join(experiment.frozen), params)
    sizes = jax.tree.map(lambda x, frozen: x.size * frozen, params, is_frozen)
    frozen = sum(jax.tree.leaves(sizes))
    parameters = f"{count / 1e6:.2f} M parameters"
    parameters += f", {frozen / 1e6:.2f} M of them frozen," if frozen else ""
    data = f"{experiment.workload.size(made.data)}{left_out(made.data.report)}"
    used, there = mesh.size, jax.device_count()
    devices = f"{used}" if used == there else f"{used} of {there}"
    shape = ", ".join(f"{name} {size}" for name, size in mesh.shape.items())
    begin = f"from {experiment.init_from or 'scratch'}"
    if made.step:
        begin = f"from step {made.step}"
    train, every = experiment.train, experiment.eval.every_steps
    missed = unreached(experiment.optim, total=train.total_steps, every=every)
    begin = "; ".join([begin, *missed, *lag(train)])
    return (
        f"{experiment.model_name} with {parameters} on {data}, "
        f"{devices} {jax.default_backend()} device(s) as {shape}; {begin}"
    )


def left_out(report: dict) -> str:
    """What was read and has no part in a split: " (left out: 3 of train)", or "".

    Args: report: of the data, see ``data_report.json``.
    """
    counts = {}
    for split in ("train", "valid", "test"):
        said = report.get(split, {})
        counts[split] = said.get("read", 0) - said.get("kept", said.get("read", 0))
        counts[split] += said.get("malformed", {}).get("lines", 0)
        files = said.get("files", {}).values()
        counts[split] += sum(file.get("misplaced", 0) for file in files)
    words = [f"{count:,} of {split}" for split, count in counts.items() if count > 0]
    return f" (left out: {', '.join(words)})" if words else ""


def batches_from(
    experiment: Experiment,
    data: Any,
    mesh: jax.sharding.Mesh,
    first: int,
    *,
    whole: bool = False,
    batch_rows: Sequence[int] = (),
) -> Any:
    """The training batches from number ``first`` on, [B, ...], on the host.

    Of several processes each has its own rows of every micro-batch; ``whole``: all.
    ``batch_rows``: as the run began, see ``train_batches``.
    """
    cfg, shards = experiment.train, row_multiple(mesh)
    rows = int(np.lcm(cfg.row_multiple, shards))
    return train_batches(
        experiment.data,
        data,
        batch_tokens=cfg.batch_tokens,
        total_batches=cfg.total_steps,
        seed=experiment.seed,
        start=first,
        shards=shards,
        own=range(shards) if whole else own_rows(mesh),
        micro_batches=cfg.accumulate_steps,
        row_multiple=rows * cfg.accumulate_steps,
        batch_rows=batch_rows,
    )
