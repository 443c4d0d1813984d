"""Configure: a whole configuration from what differs from the defaults."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from tfm_jax.config import ConfigError, section
from tfm_jax.settings.experiment import section_types
from tfm_jax.workloads import WORKLOADS


def configure(
    model_name: str,
    task: str,
    *,
    seed: int = 0,
    init_from: str = "",
    freeze: str = "",
    **sections: Mapping[str, Any],
) -> ConfigDict:
    """Every section with every knob, so that each one is a command line flag.

    Args:
        sections: ``model``, ``data``, ``tokenizer``, ``optim``, ``train``, ``eval``,
            ``checkpoint`` and ``mesh``, each the knobs that differ from the defaults:
            those that the workload has, else those of the section.
    Raises: ConfigError for a knob or a section that there is not, and for a value that
        is not legal.
    """
    classes, usual = section_types(model_name, task), WORKLOADS[task].defaults
    if unknown := sorted(sections.keys() - classes.keys()):
        raise ConfigError(f"sections {unknown} are unknown; choose from {(*classes,)}")
    config = ConfigDict(
        dict(
            seed=seed,
            model_name=model_name,
            task=task,
            init_from=init_from,
            freeze=freeze,
        )
    )
    for name, cls in classes.items():
        knobs = {**usual.get(name, {}), **sections.get(name, {})}
        config[name] = section(cls, **knobs)
    return config
