"""Folders with safetensors, read and written with numpy alone; pickles are refused."""

from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from tfm_jax import bounded_json
from tfm_jax.interop.problems import cut, listed

FILE = "model.safetensors"
INDEX = f"{FILE}.index.json"  # where each tensor of a sharded model lies
LONGEST = 255  # characters of a file's name
WRAPPERS = ("module.", "_orig_mod.")
_RUNS_CODE = {".bin", ".pt", ".pth", ".ckpt", ".pkl"}


def read(folder: str | Path, file: str = FILE) -> dict[str, np.ndarray]:
    """Every tensor in ``folder`` by name, from one file or from shards by their index.

    Args: file: its name; that of an index has ``.index.json`` behind it.

    Raises:
        ValueError: there are only pickles, a file is damaged, or the index is wrong.
        FileNotFoundError: there is no model, or a shard is missing.
    """
    folder, index = Path(folder), f"{file}.index.json"
    if (folder / file).exists():
        return unwrapped(_read_file(folder / file))
    if (folder / index).exists():
        return unwrapped(_read_shards(folder / index))
    pickles = sorted(p.name for p in folder.glob("*") if p.suffix in _RUNS_CODE)
    if pickles:
        raise ValueError(
            f"{folder} holds {listed(pickles)}: opening such a file runs code that "
            "is stored in it, so it is not opened. Where you trust it, convert it with "
            "transformers: AutoModelForSeq2SeqLM.from_pretrained(FOLDER)"
            f".save_pretrained(NEW_FOLDER) writes {FILE}"
        )
    raise FileNotFoundError(f"neither {file} nor {index} in {folder}")


def write(folder: str | Path, tensors: dict[str, np.ndarray], file: str = FILE) -> None:
    """Writes one file; safetensors would store a transposed view silently wrong."""
    contiguous = {name: np.ascontiguousarray(x) for name, x in tensors.items()}
    path = Path(folder, file)
    path.touch()
    mode = path.stat().st_mode
    save_file(contiguous, path, metadata={"format": "pt"})
    path.chmod(mode)  # safetensors lets nobody else read what it writes


def _read_file(path):
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is not a regular file")
    try:
        return load_file(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing") from None
    except (
        SafetensorError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
    ) as error:
        raise ValueError(f"{path} is damaged: {cut(error)}") from error


def _read_shards(index):
    """A tensor that the index names may be in no shard: a copy of one that is tied."""
    places = bounded_json.read(index, dict).get("weight_map")
    if not isinstance(places, dict):
        raise ValueError(f"{index} has no weight_map of tensors to files")
    tensors = {}
    for shard in dict.fromkeys(_file_name(x, index) for x in places.values()):
        held = _read_file(index.parent / shard)
        promised = {name for name, place in places.items() if place == shard}
        if not set(held) <= promised:
            differ = listed(sorted(set(held) - promised))
            raise ValueError(
                f"{index.parent / shard} and {index.name} differ in {differ}"
            )
        tensors |= held
    return tensors


def _file_name(shard, index):
    plain = isinstance(shard, str) and Path(shard).name == shard and shard != ".."
    if not plain or not shard.isprintable() or len(shard) > LONGEST:
        raise ValueError(f"{index.name}: {cut(repr(shard))} is not a plain file name")
    return shard


def unwrapped(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Without what torch.compile and its data parallelism put before every name."""
    for prefix in WRAPPERS * 2:
        if tensors and all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): x for name, x in tensors.items()}
    return tensors
