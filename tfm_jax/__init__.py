"""Transformer ablations in JAX and Flax Linen."""

from tfm_jax.runs.process import libtpu

__version__ = "0.1.0"

libtpu.tell()
