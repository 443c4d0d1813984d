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


for _found in pkgutil.iter_modules(__path__):
    _module = importlib.import_module(f"{__name__}.{_found.name}")
    for _value in vars(_module).values():
        if isinstance(_value, Workload):
            register(_value)
