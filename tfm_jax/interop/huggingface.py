"""Folders as transformers writes them: a model out of one, and one out of a model."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp

from tfm_jax import bounded_json
from tfm_jax.decode.search import Special
from tfm_jax.interop import (
    albert,
    bert,
    electra,
    fields,
    generation,
    gpt,
    label_names,
    marian,
    safetensors_io,
)
from tfm_jax.interop.imported import Imported, ImportedDecoder, ImportedText
from tfm_jax.interop.problems import cut
from tfm_jax.models import albert as albert_model
from tfm_jax.models import bert as bert_model
from tfm_jax.models import electra as electra_model
from tfm_jax.models import gpt as gpt_model
from tfm_jax.models import transformer

PER_LAYER = 4  # tensors of a layer that shares none, at least
CONFIG, GENERATION = "config.json", "generation_config.json"


class Family(NamedTuple):
    """How one ``model_type`` of transformers is read and written.

    Attributes:
        config: class of its configuration here. model: Linen module of a config.
        names: has ``read_config(values)``, ``write_config(config)``,
            ``to_params(config, tensors)`` and ``to_tensors(config, params)``.
        imported: what loading returns.
        read_ids: (config.json, generation_config.json or None) -> the fields of
            ``imported`` besides config, model and params.
        write_ids: those fields, all optional -> what they add to config.json, and the
            content of generation_config.json, None if there shall be no such file.
    """

    config: type
    model: Callable
    names: object
    imported: type = ImportedText
    read_ids: Callable = lambda values, decoding: {
        "ids": _token_ids(values),
        "labels": label_names.read(values),
    }
    write_ids: Callable = lambda ids=None, labels=(): (
        dict(ids or {}) | label_names.write(labels),
        None,
    )


def _token_ids(values):
    ends = "_token_id"
    fits = range(-fields.MOST, fields.MOST)
    return {
        k: v
        for k, v in values.items()
        if k.endswith(ends) and type(v) is int and v in fits
    }


def _read_pair_ids(values, decoding):
    found = generation.read(marian.DEFAULTS | values, decoding)
    return dict(zip(("special", "force_eos"), found, strict=True))


def _write_pair_ids(special=None, force_eos=False):
    ids = generation.write(special or Special(), force_eos)
    return ids, ids


FAMILIES = {  # by transformers' model_type
    "marian": Family(
        transformer.Config,
        transformer.Transformer,
        marian,
        Imported,
        _read_pair_ids,
        _write_pair_ids,
    ),
    "openai-gpt": Family(gpt_model.Config, gpt_model.Gpt, gpt.GPT1, ImportedDecoder),
    "gpt2": Family(gpt_model.Config, gpt_model.Gpt, gpt.GPT2, ImportedDecoder),
    "gpt_neo": Family(gpt_model.Config, gpt_model.Gpt, gpt.NEO, ImportedDecoder),
    "bert": Family(bert_model.Config, bert_model.Bert, bert),
    "albert": Family(albert_model.Config, albert_model.Albert, albert),
    "electra": Family(electra_model.Config, electra_model.Electra, electra),
}


def load_huggingface(folder) -> Imported | ImportedText:
    """Loads ``config.json`` and safetensors, whole or in shards; see ``FAMILIES``.

    Raises:
        ValueError: another model type, pickles, fields without counterpart here, or
            tensors that are unknown, missing or of another shape; all are listed.
        FileNotFoundError: a file is missing.
    """
    folder = local(folder)
    values = bounded_json.read(folder / CONFIG, dict)
    family = _family(values.get("model_type"))
    decoding = None
    if (folder / GENERATION).exists():
        decoding = bounded_json.read(folder / GENERATION, dict)
    config = family.names.read_config(values)
    ids = family.read_ids(values, decoding)
    tensors = safetensors_io.read(folder)
    _check_layers(config, tensors)
    params = family.names.to_params(config, tensors)
    return family.imported(
        config=config,
        model=family.model(config),
        params=jax.tree.map(jnp.asarray, params),
        **ids,
    )


def save_huggingface(folder, params, config, *, model_type: str = "", **ids) -> None:
    """Writes a folder that ``from_pretrained`` of transformers reads.

    The tokenizer is not written, see ``tokenizer_files``.

    Args:
        folder: new or empty.
        params: nested dict for a model of ``config``, unrolled or scanned.
        config: of one of ``FAMILIES``.
        model_type: where several have such a config: which one; "" is the first that
            can represent it.
        ids: ``special`` and ``force_eos`` for models of pairs, by default those of our
            tokenizers; ``ids`` and ``labels`` for the others, as in ``ImportedText``.

    Raises:
        ValueError: the config or the parameters have no counterpart; all are listed.
        FileExistsError: the folder is not empty.
    """
    folder = Path(folder)
    family, values = _representing(config, model_type)
    ids, decoding = family.write_ids(**ids)
    tensors = family.names.to_tensors(config, params)
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty")
    contents = {CONFIG: values | ids, GENERATION: decoding}
    for name, content in contents.items():
        if content is not None:
            text = json.dumps(content, indent=2, sort_keys=True) + "\n"
            (folder / name).write_text(text, "utf-8")
    safetensors_io.write(folder, tensors)


def describe(config, model_type: str = "") -> dict:
    """The content of ``config.json`` for ``config``, token ids apart.

    Args: model_type: see ``save_huggingface``.
    Raises: ValueError listing every field that transformers cannot represent.
    """
    return _representing(config, model_type)[1]


def model_type(folder) -> str:
    """The family that a folder names. Raises: as ``load_huggingface``."""
    return bounded_json.read(local(folder) / CONFIG, dict).get("model_type")


def _family(model_type):
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        legal = ", ".join(FAMILIES)
        raise ValueError(f"model_type={cut(repr(model_type))}; choose from ({legal})")
    return FAMILIES[model_type]


def _representing(config, model_type):
    """(family, config.json) of the first family that can represent ``config``."""
    named = [_family(model_type)] if model_type else FAMILIES.values()
    problems = []
    for family in named:
        if type(config) is family.config:
            try:
                return family, family.names.write_config(config)
            except ValueError as error:
                problems.append(str(error))
    ours = f"{type(config).__module__}.{type(config).__name__}"
    raise ValueError(" | ".join(problems) or f"{ours} has no counterpart {model_type}")


def local(folder) -> Path:
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
    depths = [
        n for n in ("depth", "encoder_depth", "decoder_depth") if hasattr(config, n)
    ]
    layers = sum(getattr(config, name) for name in depths)
    if getattr(config, "share", "none") != "all" and PER_LAYER * layers > len(tensors):
        raise ValueError(f"{CONFIG} has {layers} layers, but {len(tensors)} tensors")
