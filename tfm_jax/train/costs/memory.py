"""Memory of one device: what a state takes, and what a program needs besides."""

from typing import Any

import jax
import numpy as np

from tfm_jax.train.state import TrainState

KINDS = {"parameters": "params", "optimizer": "opt_state", "average": "ema"}


def of_state(abstract: TrainState) -> dict[str, int]:
    """Kind of array -> bytes on one device, of a state with its places."""
    return {name: of_tree(getattr(abstract, field)) for name, field in KINDS.items()}


def of_tree(tree: Any) -> int:
    """Bytes on one device of arrays, or shapes, that have a place."""
    return sum(
        int(np.prod(x.sharding.shard_shape(x.shape))) * x.dtype.itemsize
        for x in jax.tree.leaves(tree)
    )


def of_program(compiled: jax.stages.Compiled) -> dict[str, int]:
    """``temporary`` and ``peak`` bytes, with arguments and results; {}: not known."""
    sizes = compiled.memory_analysis()
    if sizes is None:  # not every backend says
        return {}
    held = sizes.argument_size_in_bytes + sizes.output_size_in_bytes
    held -= sizes.alias_size_in_bytes
    temporary = sizes.temp_size_in_bytes
    return {"temporary": temporary, "peak": held + temporary}
