"""Checkpoints of other libraries, read and written exactly, without those libraries."""

from tfm_jax.interop.huggingface import load_huggingface, save_huggingface
from tfm_jax.interop.imported import Imported, ImportedDecoder, ImportedText

__all__ = [
    "Imported",
    "ImportedDecoder",
    "ImportedText",
    "load_huggingface",
    "save_huggingface",
]
