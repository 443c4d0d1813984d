"""Configure: a whole configuration from what differs from the defaults."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ml_collections import ConfigDict

from tfm_jax.config import ConfigError, section
from tfm_jax.settings.experiment import section_types
from tfm_jax.workloads import WORKLOADS


def configure(
    model_name: str,
    task: str,
    size: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    *,
    seed: int = 0,
    init_from: str = "",
    freeze: str = "",
    **sections: Mapping[str, Any],
) -> ConfigDict:
    """Every section with every knob, so that each one is a command line flag.

    Args:
        size: sections that one size has to itself, or in part: its knobs come before
            those of ``sections``.
        sections: ``model``, ``data``, ``tokenizer``, ``optim``, ``train``, ``eval``,
            ``checkpoint`` and ``mesh``, each the knobs that differ from the defaults:
            those that the workload has, else those of the section. Checkpoints are
            ranked by the workload's own loss.
    Raises: ConfigError for a knob or a section that there is not, and for a value that
        is not legal.
    """
    classes, workload = section_types(model_name, task), WORKLOADS[task]
    usual = {"checkpoint": {"metric": workload.score_of("loss")}, **workload.defaults}
    sections = _merged(sections, size)
    if unknown := sorted(sections.keys() - classes.keys()):
        raise ConfigError(
            f"sections {unknown} are unknown; choose from ({', '.join(classes)})"
        )
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


def every(steps: int) -> dict[str, dict[str, int]]:
    """Sections: an evaluation and a checkpoint after so many steps."""
    return {name: {"every_steps": steps} for name in ("eval", "checkpoint")}


def _merged(outer, inner):
    """``outer`` with what ``inner`` says, mapping by mapping."""
    both = {
        name: _merged(outer[name], value)
        for name, value in inner.items()
        if isinstance(value, Mapping) and name in outer
    }
    return {**outer, **inner, **both}
