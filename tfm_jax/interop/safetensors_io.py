"""Folders with safetensors, read and written with numpy alone; pickles are refused."""

import json
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

FILE = "model.safetensors"
INDEX = "model.safetensors.index.json"  # where each tensor of a sharded model lies
_RUNS_CODE = {".bin", ".pt", ".pth", ".ckpt", ".pkl"}


def read(folder) -> dict[str, np.ndarray]:
    """Every tensor in ``folder`` by name, from one file or from shards by their index.

    Raises:
        ValueError: there are only pickles, a file is damaged, or the index is wrong.
        FileNotFoundError: there is no model, or a shard is missing.
    """
    folder = Path(folder)
    if (folder / FILE).is_file():
        return _read_file(folder / FILE)
    if (folder / INDEX).is_file():
        return _read_shards(folder)
    pickles = sorted(p.name for p in folder.glob("*") if p.suffix in _RUNS_CODE)
    if pickles:
        raise ValueError(
            f"{folder} holds {', '.join(pickles)}: opening such a file runs code that "
            "is stored in it, so it is not opened. Where you trust it, convert it with "
            "transformers: AutoModelForSeq2SeqLM.from_pretrained(FOLDER)"
            f".save_pretrained(NEW_FOLDER) writes {FILE}"
        )
    raise FileNotFoundError(f"neither {FILE} nor {INDEX} in {folder}")


def write(folder, tensors: dict[str, np.ndarray]) -> None:
    """Writes one file; safetensors would store a transposed view silently wrong."""
    contiguous = {name: np.ascontiguousarray(x) for name, x in tensors.items()}
    save_file(contiguous, Path(folder, FILE), metadata={"format": "pt"})


def _read_file(path):
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def _read_shards(folder):
    places = json.loads((folder / INDEX).read_text("utf-8")).get("weight_map")
    if not isinstance(places, dict):
        raise ValueError(f"{folder / INDEX} has no weight_map of tensors to files")
    tensors = {}
    for shard in sorted(set(places.values())):
        if Path(shard).name != shard:
            raise ValueError(f"{folder / INDEX}: {shard!r} is not a plain file name")
        found = _read_file(folder / shard)
        promised = {name for name, place in places.items() if place == shard}
        if promised != set(found):
            differ = sorted(promised ^ set(found))
            raise ValueError(f"{folder / shard} and {INDEX} differ in {differ}")
        tensors |= found
    return tensors
