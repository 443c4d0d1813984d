"""NameMap: how one ``model_type`` of transformers is read and written."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from tfm_jax.interop.imported import ImportedText
from tfm_jax.interop.tensors import fields, label_names
from tfm_jax.models.family import Family


@dataclasses.dataclass(frozen=True)
class NameMap:
    """A model type; a module of this package ends in its own, as ``HUGGINGFACE``.

    Attributes:
        model_type: theirs. family: ours.
        imported: class of what loading returns.
    """

    model_type: str
    family: Family
    imported: ClassVar[type] = ImportedText

    def read_config(self, values: dict) -> Any:
        """The model that the content of a ``config.json`` describes.

        What the file leaves out has the default of transformers.

        Raises: ValueError listing every field that has no counterpart here.
        """
        raise NotImplementedError

    def write_config(self, cfg: Any) -> dict:
        """The content of ``config.json`` for ``cfg``, token ids apart.

        Raises: ValueError listing every field that transformers cannot represent.
        """
        raise NotImplementedError

    def read_processor(self, cfg: Any, values: dict) -> Any:
        """``cfg`` with what the content of a ``preprocessor_config.json`` says.

        Raises: ValueError listing what has no counterpart here.
        """
        return cfg

    def resizing_problems(self, cfg: Any, values: dict) -> list[str]:
        """What that file has done to an image of another size, and no run does."""
        return []

    def write_processor(self, cfg: Any) -> dict | None:
        """The inverse of ``read_processor``; None: no such file."""
        return None

    def to_params(self, cfg: Any, tensors: Mapping[str, np.ndarray]) -> dict:
        """Nested dict of float32 parameters for the unrolled model of ``cfg``.

        Raises: ValueError listing all that is unknown, missing or does not fit.
        """
        raise NotImplementedError

    def to_tensors(self, cfg: Any, params: Any) -> dict:
        """The inverse of ``to_params``, of any layout."""
        raise NotImplementedError

    def read_ids(self, values: dict, decoding: dict | None) -> dict:
        """Fields of ``imported`` besides config, model and params.

        Args: values, decoding: content of ``config.json`` and, if there is one, of
            ``generation_config.json``.
        """
        return {"ids": _token_ids(values), "labels": label_names.read(values)}

    def write_ids(
        self, ids: Any = None, labels: Sequence[str] = ()
    ) -> tuple[dict, dict | None]:
        """The inverse of ``read_ids``: what is added to ``config.json``, and the other.

        Args: those fields, all optional.
        """
        return dict(ids or {}) | label_names.write(labels), None


def _token_ids(values):
    fits = range(-fields.MOST, fields.MOST)
    return {
        name: token
        for name, token in values.items()
        if name.endswith("_token_id") and type(token) is int and token in fits
    }
