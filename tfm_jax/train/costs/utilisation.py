"""Model FLOPs utilisation: the part of what its devices can do that a run does."""

import dataclasses
import re
from typing import Any

import jax

from tfm_jax.settings.experiment import Experiment
from tfm_jax.train import program
from tfm_jax.train.costs import flops

# words of ``device_kind`` -> FLOP/s of one device: products of bfloat16, none of them
# sparse. The first that are there count. Sources: data sheets of NVIDIA;
# cloud.google.com/tpu/docs/system-architecture-tpu-vm, where a chip of v2 and v3 is two
# devices.
PEAKS = {
    "TPU v2": 45e12 / 2,
    "TPU v3": 123e12 / 2,
    "TPU v4 lite": 138e12,
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5e": 197e12,
    "TPU v5": 459e12,
    "TPU v5p": 459e12,
    "TPU v6 lite": 918e12,
    "TPU v6e": 918e12,
    "A100": 312e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "H200": 989e12,
    "GH200": 989e12,
    "B200": 2250e12,
    "L40S": 362e12,
    "L4": 121e12,
}


def peak(device_kind: str) -> float:
    """FLOP/s of a device; 0: not known, as of CPUs."""
    for name, rate in PEAKS.items():
        if re.search(rf"\b{name}\b", device_kind):
            return rate
    return 0.0


class Meter:
    """Counts what the model needs, whatever is done: no recomputation, no optimizer.

    Source: Chowdhery et al. 2022 (PaLM), arXiv:2204.02311, appendix B: the observed
        throughput relative to that of a system at its peak. The peak is that of
        bfloat16, also for a model of float32.
    Args: mesh: whose devices share the work. A member of a population does a part of
        it: there the sum of all counts.
    """

    def __init__(self, experiment: Experiment, mesh: jax.sharding.Mesh) -> None:
        self.experiment = experiment
        self.peak = peak(mesh.devices.flat[0].device_kind) * mesh.size
        self._counts: dict[Any, float] = {}

    def flops(self, batch: Any) -> float:
        """Of the products of a step on ``batch``, [A, B, ...].

        Returns: 0 where no peak is known, or where they cannot be counted.
        """
        if not self.peak:
            return 0.0
        shapes = tuple(x.shape for x in jax.tree.leaves(batch))
        if shapes not in self._counts:
            self._counts[shapes] = needed(self.experiment, batch)
        return self._counts[shapes]


def needed(experiment: Experiment, batch: Any) -> float:
    """FLOPs of the products of a step on ``batch``, [A, B, ...], without recomputation.

    Returns: 0 where they cannot be counted.
    """
    plain = {"remat": "none", "attention": "xla"}  # of equal results
    there = {k: v for k, v in plain.items() if hasattr(experiment.model, k)}
    model = dataclasses.replace(experiment.model, **there)
    functions = program.build(experiment._replace(model=model))
    state = functions.shapes()
    try:
        return float(flops.count(functions.gradients, state, batch)["products"])
    except flops.Uncountable:
        return 0.0
