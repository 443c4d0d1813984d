"""Topologies: devices that are not here, and what each of them has."""

import contextlib
import importlib.util
import math
import os
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
from jax.experimental import topologies

from tfm_jax.config import ConfigError, no_choice
from tfm_jax.runs.process import libtpu, runtime
from tfm_jax.train.aot import gpus
from tfm_jax.train.costs.utilisation import peak

GIB = 2**30


class Chip(NamedTuple):
    """One device; 0 is what nothing is known of.

    Attributes:
        flops: FLOP/s, products of bfloat16. memory: bytes that programs may use.
        bandwidth: bytes/s of that memory.
        interconnect: bytes/s that it sends to others, and receives at the same time.
    """

    flops: float = 0.0
    memory: float = 0.0
    bandwidth: float = 0.0
    interconnect: float = 0.0


class Topology(NamedTuple):
    """Devices, what each has, and what is not as it would be there, in words."""

    devices: Sequence[Any]
    chip: Chip
    assumed: tuple[str, ...] = ()


class Kind(NamedTuple):
    """A kind of TPU.

    Attributes:
        called: as the compiler spells it. chip: what it has.
        sides: of the torus that they are in, at most; a program for more would abort.
        options: of ``get_topology_desc``.
    """

    called: str
    chip: Chip
    sides: int
    options: Mapping[str, Any] = MappingProxyType({})


_MEGACORE = MappingProxyType(
    {"chip_config_name": "megacore", "chips_per_host_bounds": (2, 2, 1)}
)
# name -> what it is. Memory is what the compiler says there is, a little less than
# the data sheets do. Bandwidths: cloud.google.com/tpu/docs/v4, v5e, v5p and v6e; the
# interconnect is half of the "bidirectional" one, of v4 by Jouppi et al. 2023,
# arXiv:2304.01433, table 4: 6 links of 50 GB/s.
TPUS = {
    "v4": Kind("v4", Chip(peak("TPU v4"), 30.75 * GIB, 1_228e9, 300e9), 3, _MEGACORE),
    "v5e": Kind("v5e", Chip(peak("TPU v5e"), 15.75 * GIB, 819e9, 200e9), 2),
    "v5p": Kind("v5", Chip(peak("TPU v5p"), 95.74 * GIB, 2_765e9, 600e9), 3),
    "v6e": Kind("v6e", Chip(peak("TPU v6e"), 31.25 * GIB, 1_640e9, 400e9), 2),
}
# its description for the compiler; NVLink as its data sheet has it, one direction
GPUS = {
    "h100": (gpus.H100, Chip(peak("H100"), 84_942_979_072, 3_350e9, 450e9)),
    "a100": (gpus.A100, Chip(peak("A100"), 85_100_068_864, 2_039e9, 300e9)),
}
CPU = Chip()


def describe_topology(topology: str) -> Topology:
    """The devices that ``--topology`` names.

    ``v5e:4x4`` are TPUs, ``h100:8`` GPUs of one host, ``h100:2x8`` of two, ``cpu:8``
    devices of this process.

    Called before the first array exists, for which JAX would choose its own devices.

    Raises: ConfigError for what is no topology, and for one whose compiler is absent.
    """
    name, _, shape = topology.partition(":")
    sizes = shape.split("x")
    numbers = (size.isascii() and size.isdecimal() and int(size) for size in sizes)
    if not all(numbers):
        raise ConfigError(f"--topology={topology!r}; write KIND:SHAPE, such as v5e:4x4")
    if name == "cpu":
        return _cpus(topology, math.prod(map(int, sizes)))
    if name not in (*TPUS, *GPUS):
        raise ConfigError(no_choice("--topology", name, (*TPUS, *GPUS, "cpu")))
    most = TPUS[name].sides if name in TPUS else 2
    if len(sizes) > most:
        raise ConfigError(
            f"--topology={topology!r}; the shape of {name} has at most {most} sizes, "
            f"such as {name}:{'x'.join('248'[:most])}"
        )
    if name in GPUS:
        return _gpus(topology, *GPUS[name], "x".join(["1", "1", *sizes][-3:]))
    return _tpus(topology, TPUS[name], tuple(map(int, sizes)))


def _cpus(topology, count):
    runtime.prepare(count)
    devices = jax.devices("cpu")
    if len(devices) < count:
        raise ConfigError(
            f"--topology={topology!r}: this process has {len(devices)} CPU devices"
        )
    return Topology(devices[:count], CPU)


def _tpus(topology, kind, shape):
    _prepare(topology, "tpu", "libtpu")
    os.environ |= libtpu.WITHOUT_TPU | os.environ
    options = dict(kind.options)
    if math.prod(shape) < 4:  # a part of what one host has
        options["chips_per_host_bounds"] = (*shape, 1, 1)[:3]
    name = f"{kind.called}:{'x'.join(map(str, shape))}"
    return Topology(_described(topology, "tpu", name, options), kind.chip)


def _gpus(topology, target, chip, shape):
    _prepare(topology, "gpu", "jax_cuda12_plugin")
    jax.devices()  # makes the plugin known
    options = {"topology": shape, "target_config": target}
    devices = _described(topology, "cuda", topology, options)
    xla = "model.attention='xla': the kernel of cuDNN, which needs less memory, cannot"
    return Topology(devices, chip, (f"{xla} be compiled without a GPU",))


def _prepare(topology, extra, package):
    if importlib.util.find_spec(package) is None:
        raise ConfigError(
            f"--topology={topology!r} takes a compiler that is not installed: "
            f"pip install 'tfm_jax[{extra}]'"
        )
    with contextlib.suppress(RuntimeError):  # some backend is up
        jax.config.update("jax_platforms", "cpu")  # of this machine itself
    # a program for other machines can be written there, but not read
    jax.config.update("jax_enable_compilation_cache", False)
    runtime.prepare(1)


def _described(topology, platform, name, options):
    try:
        return topologies.get_topology_desc(
            platform=platform, topology_name=name, **options
        ).devices
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        if "not divisible" in reason:
            reason = "hosts have 2x2 chips, so that the first two sizes are even"
        raise ConfigError(f"--topology={topology!r}: {reason}") from error
