"""Assemble: from the description of a run to its data, programs and state."""

import jax
import jax.numpy as jnp
import numpy as np

from tfm_jax.data.batches import train_batches
from tfm_jax.mesh import on_this_host, row_multiple
from tfm_jax.runs import initial, peers, resume
from tfm_jax.runs.workdir import replace
from tfm_jax.settings.experiment import Experiment, complete
from tfm_jax.terminal import say
from tfm_jax.train.origin import Origin
from tfm_jax.train.program import Compiled


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


def batches_from(experiment: Experiment, data, mesh, first: int):
    """The training batches from number ``first`` on, [B, ...], on the host."""
    cfg = experiment.train
    rows = int(np.lcm(cfg.row_multiple, row_multiple(mesh)))
    return train_batches(
        experiment.data,
        data,
        batch_tokens=cfg.batch_tokens,
        total_batches=cfg.total_steps,
        seed=experiment.seed,
        start=first,
        row_multiple=rows * cfg.accumulate_steps,
    )


def data_of(origin: Origin, mesh, like=None):
    """(the experiment with all vocabularies, its data, its training batches).

    Args: like: data that was prepared for the same, or None.
    Raises: ConfigError, DataError.
    """
    experiment, workload = origin.experiment, origin.experiment.workload
    data = like or workload.prepare(experiment, origin.tokenizer)
    experiment = complete(experiment, data.tokenizer, origin.model)
    if origin.source:
        labels = data.report["train"].get("labels", ())
        initial.check_labels(origin.source, labels)
    batches = batches_from(experiment, data, mesh, 0)
    if origin.extras:
        resume.go_on(batches, origin.extras["data.json"])
    peers.require_agreement("data", batches.get_state())
    return experiment, data, batches


def state_of(
    origin: Origin, experiment: Experiment, compiled: Compiled, checkpoints, workdir
):
    """The training state: restored, or new, maybe with parameters of another model."""
    if origin.extras:
        return checkpoints.restore(origin.step, compiled.abstract)
    state = compiled.init(experiment.seed)
    if origin.source is None:
        return state
    fresh = jax.tree.map(np.asarray, on_this_host(state.params))
    params, report = initial.merge(experiment, origin.source, fresh)
    params = initial.place(params, compiled.placed.params)
    ema = state.ema and jax.tree.map(jnp.copy, params)
    if jax.process_index() == 0:
        say(f"init_from={origin.source.path}: {report}")
        replace(workdir / "init_from.json", report._asdict())
    return state._replace(params=params, ema=ema)
