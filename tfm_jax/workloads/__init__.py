"""What a model can be asked to learn, a file each; ``WORKLOADS`` collects them."""

import importlib
import pkgutil

from tfm_jax import registry
from tfm_jax.workloads.workload import Workload

__all__ = ["WORKLOADS", "Workload", "register"]

WORKLOADS: dict[str, Workload] = {}


def register(workload: Workload) -> None:
    """Makes ``task=NAME`` known. Raises: ValueError if another module has the name."""
    registry.enter(WORKLOADS, "task", workload.name, workload)


for _module in pkgutil.iter_modules(__path__, f"{__name__}."):
    for _value in vars(importlib.import_module(_module.name)).values():
        if isinstance(_value, Workload):
            register(_value)
