"""The platform that a program is traced for, which need not be here."""

import jax


def platform() -> str:
    """That of the mesh in use, else of this machine: "cpu", "gpu" or "tpu".

    A mesh of described devices is enough, so that programs can be traced and compiled
    ahead of time (``jax.sharding.AbstractMesh``, ``jax.experimental.topologies``).
    """
    device = jax.sharding.get_abstract_mesh().abstract_device
    name = jax.default_backend() if device is None else device.platform
    return "gpu" if name in ("cuda", "rocm") else name
