"""The papers, one file each, and the registry that collects their families."""

import importlib
import pkgutil
from typing import Any

from tfm_jax import registry
from tfm_jax.models.family import Family

MODELS: dict[str, Family] = {}  # by value of ``model_name``


def register(family: Family) -> None:
    """Makes a family known; one of another package is so before a run names it.

    Raises: ValueError if a family of another module has the name.
    """
    registry.enter(MODELS, "model_name", family.name, family)


def family_of(config: Any) -> Family:
    """The family of a model's configuration. Raises: KeyError if there is none."""
    return {family.config: family for family in MODELS.values()}[type(config)]


for _module in pkgutil.iter_modules(__path__, f"{__name__}."):
    if _family := getattr(importlib.import_module(_module.name), "FAMILY", None):
        register(_family)
