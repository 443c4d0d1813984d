"""What a model can be asked to learn, a file each; ``WORKLOADS`` collects them."""

import importlib
import pkgutil

from tfm_jax.workloads.workload import Workload

__all__ = ["WORKLOADS", "Workload", "register"]

WORKLOADS: dict[str, Workload] = {}


def register(workload: Workload) -> None:
    """Makes ``task=NAME`` known. Raises: ValueError if there is another one."""
    if WORKLOADS.setdefault(workload.name, workload) is not workload:
        raise ValueError(f"there is a workload {workload.name!r} already")


for _found in pkgutil.iter_modules(__path__):
    _module = importlib.import_module(f"{__name__}.{_found.name}")
    for _value in vars(_module).values():
        if isinstance(_value, Workload):
            register(_value)
