"""Folders as transformers writes them: a model out of one, and one out of a model."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from tfm_jax import bounded_json
from tfm_jax.config import flatten
from tfm_jax.interop import safetensors_io
from tfm_jax.interop.imported import Imported, ImportedImages, ImportedText
from tfm_jax.interop.maps import MAPS, NameMap
from tfm_jax.interop.problems import cut

PER_LAYER = 4  # tensors of a layer that shares none, at least
CONFIG, GENERATION = "config.json", "generation_config.json"
PROCESSOR = "preprocessor_config.json"


def load_huggingface(
    folder: str | Path,
) -> Imported | ImportedText | ImportedImages:
    """Loads ``config.json`` and safetensors, whole or in shards; see ``MAPS``.

    Raises:
        ValueError: another model type, pickles, fields without counterpart here, or
            tensors that are unknown, missing, of another shape or not finite; all are
            listed.
        FileNotFoundError: a file is missing.
    """
    folder = local(folder)
    values = bounded_json.read(folder / CONFIG, dict)
    name_map = _of_type(values.get("model_type"))
    decoding = None
    if (folder / GENERATION).exists():
        decoding = bounded_json.read(folder / GENERATION, dict)
    config = name_map.read_config(values)
    ids = name_map.read_ids(values, decoding)
    if (folder / PROCESSOR).exists():
        processor = bounded_json.read(folder / PROCESSOR, dict)
        config = name_map.read_processor(config, processor)
        if problems := name_map.resizing_problems(config, processor):
            ids["resizing"] = f"{PROCESSOR}: {'; '.join(problems)}"
    tensors = safetensors_io.read(folder)
    _check_layers(config, tensors)
    params = name_map.to_params(config, tensors)
    return name_map.imported(
        config=config,
        model=name_map.family.model(config),
        params=jax.tree.map(jnp.asarray, params),
        **ids,
    )


def save_huggingface(
    folder: str | Path, params: Any, config: Any, *, model_type: str = "", **ids: Any
) -> None:
    """Writes a folder that ``from_pretrained`` of transformers reads.

    The tokenizer is not written, see ``tokenizer_files``.

    Args:
        folder: new or empty.
        params: nested dict for a model of ``config``, unrolled or scanned.
        config: of a family of ``MAPS``.
        model_type: where several have such a config: which one; "" is the first that
            can represent it.
        ids: ``special`` and ``force_eos`` for models of pairs, by default those of our
            tokenizers; ``ids`` and ``labels`` for the others, as in ``ImportedText``.

    Raises:
        ValueError: the config or the parameters have no counterpart; all are listed.
        FileExistsError: the folder is not empty.
    """
    folder = Path(folder)
    name_map, values = _representing(config, model_type)
    ids, decoding = name_map.write_ids(**ids)
    tensors = name_map.to_tensors(config, jax.device_get(params))
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty")
    contents = {CONFIG: values | ids, GENERATION: decoding}
    contents[PROCESSOR] = name_map.write_processor(config)
    for name, content in contents.items():
        if content is not None:
            text = json.dumps(content, indent=2, sort_keys=True) + "\n"
            (folder / name).write_text(text, "utf-8")
    safetensors_io.write(folder, tensors)


def describe(config: Any, model_type: str = "") -> dict:
    """The content of ``config.json`` for ``config``, token ids apart.

    Args: model_type: see ``save_huggingface``.
    Raises: ValueError listing every field that transformers cannot represent.
    """
    return _representing(config, model_type)[1]


def model_type(folder: str | Path) -> str:
    """What a folder names. Raises: as ``load_huggingface``."""
    return bounded_json.read(local(folder) / CONFIG, dict).get("model_type")


def _of_type(model_type: object) -> NameMap:
    if not isinstance(model_type, str) or model_type not in MAPS:
        legal = ", ".join(MAPS)
        raise ValueError(f"model_type={cut(repr(model_type))}; choose from ({legal})")
    return MAPS[model_type]


def _representing(config, model_type):
    """(name map, config.json) of the first one that can represent ``config``."""
    named = [_of_type(model_type)] if model_type else MAPS.values()
    problems = []
    for name_map in named:
        if type(config) is name_map.family.config:
            try:
                return name_map, name_map.write_config(config)
            except ValueError as error:
                problems.append(str(error))
    if problems:
        raise ValueError(" | ".join(problems))
    ours = f"{type(config).__module__}.{type(config).__name__}"
    able = [name for name, x in MAPS.items() if type(config) is x.family.config]
    there = f"{model_type}; choose from" if able else "among"
    raise ValueError(f"{ours} has no counterpart {there} ({', '.join(able or MAPS)})")


def local(folder: str | Path) -> Path:
    """``folder``. Raises: ValueError if there is none, which may be a model's name."""
    if Path(folder).expanduser().exists():
        return Path(folder).expanduser()
    raise FileNotFoundError(
        f"there is no folder {cut(folder)}, and nothing is downloaded here; published "
        f"models are fetched by `hf download {cut(folder)} --local-dir FOLDER`, of the "
        "package huggingface_hub"
    )


def _check_layers(config, tensors):
    """No file makes us trace more layers than it has tensors, unless they share."""
    layers = sum(
        value
        for name, value in flatten(dataclasses.asdict(config))
        if name.rpartition(".")[2] in ("depth", "encoder_depth", "decoder_depth")
    )
    if getattr(config, "share", "none") != "all" and PER_LAYER * layers > len(tensors):
        raise ValueError(f"{CONFIG} has {layers} layers, but {len(tensors)} tensors")
