"""Programs for machines that are not here: traced and lowered, never run."""

import jax
from jax.sharding import AbstractDevice, AbstractMesh, AxisType

from tfm_jax.mesh import AXES

KINDS = {"tpu": "TPU v5 lite", "cuda": "NVIDIA H100 80GB HBM3"}


def on(target):
    """One described device of ``target`` as the mesh in use."""
    platform = {"cuda": "gpu"}.get(target, target)
    device = AbstractDevice(KINDS[target], num_cores=1, platform=platform)
    types = (AxisType.Auto,) * len(AXES)
    mesh = AbstractMesh((1,) * len(AXES), AXES, types, abstract_device=device)
    return jax.sharding.use_abstract_mesh(mesh)


def lowered(function, *args, target):
    """The program of ``function`` for ``target``, as text."""
    with on(target):
        traced = jax.jit(function).trace(*args)
        return traced.lower(lowering_platforms=(target,)).as_text()


def with_cudnn(monkeypatch, version=91000):
    """JAX takes this machine for one with cuDNN, and a GPU before Hopper."""
    checks = "jax._src.cudnn.fused_attention_stablehlo"
    monkeypatch.setattr(f"{checks}.check_cudnn_version", lambda: version)
    monkeypatch.setattr(f"{checks}.check_compute_capability", lambda _: False)
