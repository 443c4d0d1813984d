"""Checkpoints of other libraries, read and written exactly, without those libraries."""

from tfm_jax.interop.huggingface import load_huggingface, save_huggingface
from tfm_jax.interop.imported import Imported, ImportedDecoder, ImportedText
from tfm_jax.interop.maps import NameMap, register
from tfm_jax.interop.starts import read_initial

__all__ = [
    "Imported",
    "ImportedDecoder",
    "ImportedText",
    "NameMap",
    "load_huggingface",
    "read_initial",
    "register",
    "save_huggingface",
]
