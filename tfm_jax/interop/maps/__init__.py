"""Name maps: what transformers and diffusers call our models, one file a family."""

import importlib
import pkgutil

from tfm_jax import registry
from tfm_jax.interop.maps.denoisers import DenoiserMap
from tfm_jax.interop.tensors.name_map import NameMap

MAPS: dict[str, NameMap] = {}  # by transformers' model_type
DENOISERS: dict[str, DenoiserMap] = {}  # by diffusers' class


def register(name_map: NameMap) -> None:
    """Makes a model type known; of several with one config, the first is written.

    Raises: ValueError if a name map of another module has the type.
    """
    registry.enter(MAPS, "model_type", name_map.model_type, name_map)


for _module in pkgutil.iter_modules(__path__, f"{__name__}."):
    _names = importlib.import_module(_module.name)
    for _row in getattr(_names, "HUGGINGFACE", ()):
        register(_row)
    DENOISERS |= {row.class_name: row for row in getattr(_names, "DIFFUSERS", ())}
