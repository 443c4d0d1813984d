"""The papers, one file each, and the only registry."""

from tfm_jax.models import transformer

MODELS = {"transformer": transformer}
