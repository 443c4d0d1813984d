"""The papers, one file each, and the only registry."""

from tfm_jax.models import gpt, transformer

MODELS = {"transformer": transformer, "gpt": gpt}
