"""Metadata of a checkpoint: files that describe the run, and its metrics."""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfm_jax import bounded_json
from tfm_jax.runs.process.exits import CorruptCheckpoint
from tfm_jax.runs.storage import manifest

RESERVED = ("state", "metrics.json", manifest.NAME)


def encode(name: str, value: Any) -> bytes:
    """Content of a file ``name``. Raises: ValueError for a name that none may have."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}", name) or name in RESERVED:
        raise ValueError(f"{name!r} cannot be the name of a file in a checkpoint")
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    return json.dumps(value, indent=1, sort_keys=True, allow_nan=False).encode()


def decode(path: Path) -> Any:
    """A JSON file parsed, another one as bytes. Raises: CorruptCheckpoint."""
    if path.suffix != ".json":
        return path.read_bytes()
    try:
        return bounded_json.read(path)
    except ValueError as error:
        raise CorruptCheckpoint(str(error)) from error


def encode_metrics(metrics: Mapping[str, float]) -> bytes:
    """Content of ``metrics.json``, where infinities and NaN are text."""
    values = {name: float(value) for name, value in metrics.items()}
    finite = {k: v if math.isfinite(v) else str(v) for k, v in values.items()}
    return encode("metrics", finite)


def decode_metrics(checkpoint: Path) -> dict[str, float]:
    """The inverse, of a checkpoint. Raises: ValueError."""
    values = bounded_json.read(checkpoint / "metrics.json", dict)
    try:
        return {name: float(value) for name, value in values.items()}
    except (TypeError, OverflowError) as error:
        raise ValueError(f"metrics.json: {error}") from error
