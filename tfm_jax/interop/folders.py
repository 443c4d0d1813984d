"""Folders of other libraries, whichever of them wrote one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tfm_jax import bounded_json
from tfm_jax.interop import diffusers, huggingface

LOADERS: dict[str, Callable] = {  # field of config.json -> what loads such a folder
    "model_type": huggingface.load_huggingface,
    diffusers.CLASS: diffusers.load_diffusers,
}


def loader(folder: str | Path) -> Callable | None:
    """What loads ``folder``; None: no other library wrote it.

    Raises: ValueError for the folder of a whole pipeline and for a damaged
        ``config.json``; FileNotFoundError if there is no folder.
    """
    folder = huggingface.local(folder)
    if not (folder / huggingface.CONFIG).is_file():
        if (folder / "model_index.json").is_file():
            parts = sorted(
                p.parent.name for p in folder.glob(f"*/{huggingface.CONFIG}")
            )
            raise ValueError(
                f"it is a pipeline of several models; name the folder of one below "
                f"it ({', '.join(parts)})"
            )
        return None
    values = bounded_json.read(folder / huggingface.CONFIG, dict)
    return next((load for field, load in LOADERS.items() if field in values), None)


def load(folder: str | Path) -> Any:
    """What ``load_huggingface`` or ``load_diffusers`` returns.

    Raises: as they do.
    """
    return (loader(folder) or huggingface.load_huggingface)(folder)


def save(
    folder: str | Path, params: Any, config: Any, *, model_type: str = "", **ids: Any
) -> None:
    """Writes what ``load`` reads; see ``save_huggingface`` and ``save_diffusers``.

    Raises: as they do.
    """
    row = diffusers.row_of(config)
    if row is None:
        huggingface.save_huggingface(
            folder, params, config, model_type=model_type, **ids
        )
    elif model_type:
        raise ValueError(
            f"model_type={model_type!r} is one of transformers; this model is "
            f"written as diffusers' {row.class_name}"
        )
    else:
        diffusers.save_diffusers(folder, params, config)
