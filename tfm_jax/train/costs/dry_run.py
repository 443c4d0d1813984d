"""Dry run: what a run would be, before anything is trained or written."""

import json
from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
import numpy as np

from tfm_jax.config import to_flag
from tfm_jax.data.batch import CausalBatch, MaskedBatch, PairBatch
from tfm_jax.mesh import batch_sharding, make_mesh, using
from tfm_jax.runs import sources, trackers
from tfm_jax.runs.process import runtime
from tfm_jax.settings import new_runs
from tfm_jax.settings.experiment import resolve
from tfm_jax.terminal import say
from tfm_jax.train import program
from tfm_jax.train.assemble import batches_from, beginning
from tfm_jax.train.costs import memory
from tfm_jax.train.costs.first_step import Start, measure

ROWS = 2  # of the first batch that are shown
COLUMNS = 32  # of a row
# batch -> its fields of tokens -> side of the tokenizer, if it has two
TOKENS: dict[type, dict[str, tuple[str, ...]]] = {
    PairBatch: {
        "source": ("source",),
        "target_inputs": ("target",),
        "target_labels": ("target",),
    },
    CausalBatch: {"tokens": (), "labels": ()},
    MaskedBatch: {"tokens": (), "labels": ()},
}


def dry_run(
    config: Any,
    *,
    given: Collection[str] = (),
    read_initial: Callable[[str], sources.Source] = sources.read,
    format: str = "flags",
) -> dict:
    """Prints and returns the configuration, what it costs, and what the model sees.

    The data is prepared, and kept for the run; the train step is compiled, which is
    kept, too, and not run. Nothing is written elsewhere.

    Args: given, read_initial: see ``loop.train``. format: flags, or json.
    Raises: ConfigError, DataError where the run would end with them.
    """
    experiment = resolve(config)
    new_runs.check_settings(experiment)
    new_runs.check_read(experiment, given)
    trackers.require(experiment.train.trackers)
    runtime.prepare(experiment.mesh.cpu_devices)
    origin = beginning(experiment, given, read_initial)
    experiment, workload = origin.experiment, origin.experiment.workload
    data = workload.prepare(experiment, origin.tokenizer)
    experiment = experiment.complete(data.tokenizer, origin.model)
    mesh = make_mesh(experiment.mesh)
    batch = next(batches_from(experiment, data, mesh, 0))
    with using(experiment.mesh, mesh):
        measured = measure(Start(experiment, batch, workload.tokens(batch)))
        planned = _memory(experiment, mesh, batch)
    result = {
        "config": experiment.as_dict(),
        **measured,
        "total_steps": experiment.train.total_steps,
        "devices": f"{mesh.size} {mesh.devices.flat[0].device_kind}",
        "memory_bytes_per_device": planned,
        "batch": {
            "shapes": {k: list(x.shape) for k, x in _fields(batch).items()},
            "rows": [_row(batch, i, data) for i in range(ROWS)],
        },
    }
    say(json.dumps(result, indent=1) if format == "json" else _text(result, experiment))
    return result


def _memory(experiment, mesh, batch):
    """Of each device, as XLA plans it: the state, and what a step needs besides."""
    compiled = program.on_mesh(program.build(experiment), mesh)
    count, sharding = experiment.train.accumulate_steps, batch_sharding(mesh, 1)
    micro = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(
            (count, len(x) // count, *x.shape[1:]), x.dtype, sharding=sharding
        ),
        batch,
    )
    planned = compiled.train_step.lower(compiled.abstract, micro).compile()
    return memory.of_state(compiled.abstract) | memory.of_program(planned)


def _fields(batch):
    return {name: x for name, x in batch._asdict().items() if x is not None}


def _row(batch, index, data):
    """Field -> its entries in one row, tokens as the vocabulary spells them."""
    sides = TOKENS.get(type(batch), {"tokens": ()})
    names = data.report.get("train", {}).get("labels", ())
    row = {}
    for field, values in _fields(batch).items():
        entries = np.atleast_1d(values[index]).reshape(-1)[:COLUMNS]
        if field in sides and data.tokenizer is not None:
            row[field] = data.tokenizer.tokens(entries, *sides[field])
        elif field == "labels" and names and entries.dtype.kind == "i":
            row[field] = [names[label] for label in entries]
        else:
            row[field] = entries.tolist()
    return row


def _text(result: Mapping[str, Any], experiment: Any) -> str:
    lines = [f"--config.{k}={to_flag(x)}" for k, x in experiment.knobs().items()]
    steps, tokens = result["total_steps"], result["tokens_per_step"]
    counted = experiment.workload.counted
    flops = result.get("flops_per_step")
    cost = f"{flops:.4g} FLOPs" if flops else f"FLOPs unknown, {result['uncounted']}"
    total = f", {flops * steps:.4g} FLOPs" if flops else ""
    parts = result["memory_bytes_per_device"]
    sizes = ", ".join(f"{k} {x / 2**20:,.1f} MiB" for k, x in parts.items() if x)
    lines += [
        "",
        f"parameters: {result['parameters']:,}",
        f"a train step: {cost}, {tokens:,} {counted}",
        f"all {steps:,} of them: about {tokens * steps:,} {counted}{total}",
        f"memory of each of {result['devices']}: {sizes}",
        "first batch: "
        + ", ".join(f"{k} {x}" for k, x in result["batch"]["shapes"].items()),
    ]
    for index, row in enumerate(result["batch"]["rows"]):
        lines.append(f"row {index}, its first {COLUMNS} columns:")
        lines += [f"  {k:<16} {' '.join(map(str, x))}" for k, x in row.items()]
    return "\n".join(lines)
