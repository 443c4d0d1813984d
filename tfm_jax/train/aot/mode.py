"""The mode ``compile``: a run on machines that one does not have."""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from tfm_jax.config import ConfigError
from tfm_jax.mesh import AXES, make_mesh
from tfm_jax.settings import new_runs
from tfm_jax.settings.experiment import Experiment, resolve
from tfm_jax.terminal import say
from tfm_jax.train.aot import compiling, report, shapes, steps, topologies


def compile_run(
    config: Any,
    *,
    topology: str | None,
    given: Collection[str] = (),
    format: str = "flags",
    sweep_mesh: bool = False,
) -> dict:
    """Prints and returns what the steps of a run are on the devices of ``topology``.

    They are compiled and not run; no data is read and nothing is written but, of CPUs,
    the cache of compiled programs.

    Args:
        topology: see ``topologies.describe_topology``. given: see ``loop.train``.
        format: flags: for people, or json.
        sweep_mesh: tries every sensible mesh instead, with the train step alone.
    Raises: ConfigError where the run would end with it, and for a topology or a
        vocabulary of which nothing is known.
    """
    if not topology:
        raise ConfigError("--topology=KIND:SHAPE is missing, such as v5e:4x4")
    if sweep_mesh and (fixed := {f"mesh.{axis}" for axis in AXES} & {*given}):
        raise ConfigError(
            f"--sweep_mesh=true tries every {min(fixed)}; take --config.{min(fixed)} "
            "back"
        )
    experiment = resolve(config)
    new_runs.check_settings(experiment)
    new_runs.check_read(experiment, given)
    described = topologies.describe_topology(topology)
    experiment, assumed = shapes.completed(experiment)
    if getattr(experiment.data, "batching", "") == "bucket":
        assumed.append("data.batching='bucket': all rows are the longest")
    if described.assumed:
        experiment = steps.countable(experiment)
        assumed += described.assumed
    known = {"topology": topology, "assumed": assumed}
    if sweep_mesh:
        result = known | _sweep(experiment, described, said=format != "json")
    else:
        result = known | compiling.plan(experiment, described)
    if format == "json":
        say(json.dumps(result, indent=1))
    elif not sweep_mesh:
        say(report.text(result))
    return result


def compile_each(
    experiments: Mapping[str, Experiment], topology: topologies.Topology
) -> Iterator[tuple[str, dict]]:
    """(name, ``compiling.plan`` of its train step), as soon as it is compiled.

    Programs that differ in constants alone, such as learning rates, are compiled once.

    Args: experiments: with their vocabularies.
    """
    known: dict[str, dict] = {}
    for name, one in experiments.items():
        experiment = steps.countable(one) if topology.assumed else one
        made = steps.train_step(
            experiment, make_mesh(experiment.mesh, topology.devices)
        )
        program = re.sub(r"dense<.*?>", "", made[0].lowered.as_text())
        if program not in known:
            how: dict[str, Any] = dict(train_only=True, made=made)
            known[program] = compiling.plan(experiment, topology, **how)
        yield name, known[program]


def _sweep(experiment, described, *, said):
    """Every mesh, as soon as it is compiled; then the fastest that fits."""
    meshes = [*compiling.shapes(experiment, len(described.devices))]
    if not meshes:
        raise ConfigError(f"no mesh of {len(described.devices)} devices is sensible")
    tried = []
    for number, one in enumerate(meshes, start=1):
        tried.append(compiling.plan(one, described, train_only=True))
        if said:
            say(f"{number}/{len(meshes)}  {report.row(tried[-1])}")
    able = [one for one in tried if one["fits"] is not False and one["estimate"]]
    best = min(able, key=lambda one: one["estimate"]["seconds"], default=None)
    if said and best:
        flags = " ".join(f"--config.mesh.{k}={n}" for k, n in best["mesh"].items())
        say(f"the fastest by estimate that fits: {flags}")
    elif said:
        say("none of them fits, or nothing is known of these devices")
    return {"meshes": tried, "best": best and best["mesh"]}
