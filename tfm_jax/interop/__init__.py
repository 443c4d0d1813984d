"""Checkpoints of other libraries, read and written exactly, without those libraries."""

from tfm_jax.interop.diffusers import (
    ImportedDenoiser,
    load_diffusers,
    save_diffusers,
)
from tfm_jax.interop.huggingface import load_huggingface, save_huggingface
from tfm_jax.interop.imported import Imported, ImportedDecoder, ImportedText
from tfm_jax.interop.maps import NameMap, register
from tfm_jax.interop.maps.rnn_seq2seq import from_torch_rnn, to_torch_rnn
from tfm_jax.interop.starts import read_initial

__all__ = [
    "Imported",
    "ImportedDecoder",
    "ImportedDenoiser",
    "ImportedText",
    "NameMap",
    "from_torch_rnn",
    "load_diffusers",
    "load_huggingface",
    "read_initial",
    "register",
    "save_diffusers",
    "save_huggingface",
    "to_torch_rnn",
]
