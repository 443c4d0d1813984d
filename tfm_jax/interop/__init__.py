"""Checkpoints of other libraries, read and written exactly, without those libraries."""

from tfm_jax.interop.huggingface import Imported, load_huggingface, save_huggingface

__all__ = ["Imported", "load_huggingface", "save_huggingface"]
