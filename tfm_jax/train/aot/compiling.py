"""Compiling a run for devices that are not here: does it fit, and what it costs."""

import dataclasses
import math
import re
from collections.abc import Iterator
from typing import Any

import jax

from tfm_jax.config import ConfigError
from tfm_jax.mesh import AXES, make_mesh
from tfm_jax.settings.experiment import Experiment
from tfm_jax.train.aot import hlo, steps
from tfm_jax.train.aot.topologies import Topology
from tfm_jax.train.costs import flops, memory, utilisation

# times that a product of float32 numbers is made of products of bfloat16 ones, on TPUs:
# jax.lax.Precision
PASSES = {"default": 1, "high": 3, "highest": 6}
NOTABLE = 0.01  # of all parameters: replicated arrays that are named
WANTED = re.compile(r"(\d+(?:\.\d+)?)([KMGT]?)")
UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def plan(
    experiment: Experiment,
    topology: Topology,
    *,
    train_only: bool = False,
    made: tuple[steps.Step, Any] | None = None,
) -> dict:
    """What the steps of ``experiment`` are on ``topology``; plain JSON.

    Args:
        experiment: with its vocabularies. train_only: no other step is compiled.
        made: what ``steps.train_step`` returns, if somebody has it.
    Raises: ConfigError if the mesh has no place on so many devices.
    """
    chip = topology.chip
    mesh = make_mesh(experiment.mesh, topology.devices)
    step, state = made or steps.train_step(experiment, mesh)
    parts = memory.of_state(state)
    compiled = {"train": _figures(step, chip, parts, held=0)}
    if not train_only:
        held = sum(parts.values()) - parts["parameters"]
        evaluated = steps.eval_step(experiment, mesh, state)
        compiled["evaluation"] = _figures(evaluated, chip, parts, held=held)
        if decoded := steps.decode_step(experiment, mesh, state):
            held += parts["parameters"] * decoded.copies
            compiled["decoding"] = _figures(decoded, chip, parts, held=held)
    verdicts = [one["fits"] for one in compiled.values()]
    return {
        "mesh": {axis: mesh.shape[axis] for axis in AXES},
        "device": mesh.devices.flat[0].device_kind,
        "peaks": {name: value for name, value in chip._asdict().items() if value},
        "state_bytes": parts,
        "steps": compiled,
        "replicated": replicated(state.params, mesh),
        "estimate": _estimate(experiment, mesh, chip, step, compiled["train"]),
        "fits": None if None in verdicts else all(verdicts),
    }


def _figures(step, chip, state, *, held):
    """One step: its memory, FLOPs and collectives.

    Args:
        state: bytes by kind, of the training.
        held: those of them that are not among its arguments.
    """
    counted: dict[str, Any] = {"size": step.size, "devices": step.devices}
    try:
        with step.within():
            operations = flops.count(step.traced, *step.arguments)
        counted |= {"flops": operations.total(), "products": operations["products"]}
    except flops.Uncountable as error:
        counted |= {"uncounted": str(error)}
    try:
        compiled = step.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return counted | {"fits": False, "refused": _refusal(str(error))}
    sizes = memory.of_program(compiled)
    arguments = memory.of_tree(step.arguments)
    bytes_ = dict(state)
    if step.copies:
        bytes_["decoder's copy"] = memory.of_tree(step.arguments[0])
    bytes_["other arguments"] = arguments - memory.of_tree(step.arguments[0])
    bytes_ |= {"temporaries": sizes.get("temporary", 0)}
    peak = sizes.get("peak", 0) + held
    fits = peak <= chip.memory if chip.memory and sizes else None
    program = hlo.read(compiled.as_text())
    return counted | {
        "bytes": bytes_,
        "peak": peak,
        "fits": fits,
        "collectives": {
            kind: {"count": program.counts[kind], "bytes": program.sizes[kind]}
            for kind in program.counts
        },
        "sent": program.sent,
        "moved": program.moved,
        "unknown_loops": program.unknown_loops,
    }


def _refusal(text):
    """``said``, the line of a compiler; in it ``wanted`` and ``available`` bytes."""
    line = next(x for x in text.splitlines() if "RESOURCE_EXHAUSTED" in x)
    sizes = [float(n) * UNITS[unit] for n, unit in WANTED.findall(line) if unit]
    names = ("wanted", "available")
    return {"said": line} | dict(zip(names, sizes, strict=False))


def replicated(params: Any, mesh: jax.sharding.Mesh) -> list[dict]:
    """Large parameters that every device has whole, although an axis could divide them.

    Of a mesh with ``fsdp`` or ``tensor`` above 1 those of ``NOTABLE`` size and more,
    the largest first.
    """
    axes = {axis: mesh.shape[axis] for axis in ("fsdp", "tensor")}
    if math.prod(axes.values()) == 1:
        return []
    total = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(params))
    whole = []
    for path, x in jax.tree_util.tree_leaves_with_path(params):
        size = x.size * x.dtype.itemsize
        if size >= NOTABLE * total and memory.of_tree(x) == size:
            name = "/".join(str(key.key) for key in path)
            whole.append({"name": name, "shape": list(x.shape), "bytes": size})
    return sorted(whole, key=lambda x: -x["bytes"])


def _estimate(experiment, mesh, chip, step, figures):
    """Roofline of a train step in seconds; {} where nothing is known of the chip.

    The larger of what its FLOPs and its memory take at their peaks, and then what its
    collectives take: nothing overlaps with these. No time was measured.

    Source: Williams et al. 2009, "Roofline", CACM 52(4), and PaLM's utilisation, see
    ``utilisation.needed``.
    """
    if not chip.flops or "bytes" not in figures or "products" not in figures:
        return {}
    exact = getattr(experiment.model, "dtype", "float32") == "float32"
    passes = PASSES[experiment.mesh.matmul_precision] if exact else 1
    terms = {
        "products": figures["products"] * passes / mesh.size / chip.flops,
        "memory": figures["moved"] / chip.bandwidth,
        "collectives": figures["sent"] / chip.interconnect,
    }
    seconds = max(terms["products"], terms["memory"]) + terms["collectives"]
    with step.within():
        wanted = utilisation.needed(experiment, step.arguments[1])
    utilised = wanted / (seconds * chip.flops * mesh.size)
    return {"seconds": seconds, **terms, "mfu": utilised, "passes": passes}


def shapes(experiment: Experiment, count: int) -> Iterator[Experiment]:
    """The same on every sensible mesh of ``count`` devices.

    ``tensor`` divides all numbers of heads; the batch is not larger than it was asked
    to be; what divides the model is no more than 64.
    """
    knobs = experiment.knobs()
    heads = [n for k, n in knobs.items() if k.startswith("model.") and "heads" in k]
    heads = [n for n in heads if isinstance(n, int) and n > 0]
    for tensor in _divisors(count):
        if tensor > 1 and (not heads or any(n % tensor for n in heads)):
            continue
        for fsdp in _divisors(count // tensor):
            sizes = dict(data=count // tensor // fsdp, fsdp=fsdp, tensor=tensor)
            if fsdp * tensor > 64:
                continue
            try:
                mesh = dataclasses.replace(experiment.mesh, **sizes)
            except (ConfigError, ValueError):
                continue  # gradient_allreduce=fused
            yield experiment._replace(mesh=mesh)


def _divisors(n):
    return [d for d in range(1, n + 1) if n % d == 0]
