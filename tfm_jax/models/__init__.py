"""The papers, one file each, and the only registry."""

from tfm_jax.models import albert, bert, electra, gpt, transformer

MODELS = {
    "transformer": transformer,
    "gpt": gpt,
    "bert": bert,
    "albert": albert,
    "electra": electra,
}
