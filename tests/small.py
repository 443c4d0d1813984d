"""Sizes of runs of guides and of notebooks, whose compiled programs are the same."""

from tfm_jax import config as configs
from tfm_jax.config import flatten

SMALL = {  # where a configuration says this -> the knobs it has here
    "": {
        "checkpoint.every_steps": 1,
        "data.length": 32,
        "eval.every_steps": 2,
        "mesh.data": 1,
        "model.decoder_depth": 1,
        "model.depth": 1,
        "model.dropout": 0.0,
        "model.encoder_depth": 1,
        "model.ffn_width": 16,
        "model.heads": 2,
        "model.width": 16,
        "tokenizer.vocab": 280,
        "train.batch_tokens": 256,
        "train.total_steps": 2,
    },
    "task=translation": {
        "data.source_length": 32,
        "data.target_length": 32,
        "eval.beam": 1,
        "eval.max_length_offset": 2,
        "eval.samples": 1,
        "eval.sentences": 64,  # all, as at the end: one program translates
    },
    "task=causal_lm": {"eval.samples": 1},
    "task=visual_lm": {
        "data.shots": 0,
        "eval.sentences": 16,  # all, as at the end: one program writes
        "eval.variants": (),
        "model.lm.depth": 1,
        "model.lm.ffn_width": 16,
        "model.lm.heads": 2,
        "model.lm.width": 16,
        "model.vision.depth": 1,
    },
    "task=retrieval": {
        "eval.samples": 4,
        "eval.variants": (),
        "model.text.depth": 1,
        "model.vision.depth": 1,
    },
    "task=classify_images": {"train.batch_tokens": 16},
    "model_name=dit": {"model.ffn_width": 64},  # as of all that diffusers has
    "task=denoise": {
        "data.noise.steps": 40,
        "data.sampler.steps": 2,
        "eval.samples": 10,
    },
    "data.source=files": {"data.valid_share": 0.2},
    "data.source=scenes": {
        "data.scenes.test": 16,
        "data.scenes.train": 64,
        "data.scenes.valid": 16,
    },
    "data.source=mechanisms": {"data.mechanism.train": 40, "data.mechanism.valid": 8},
    "data.source=nearest": {"data.nearest.train": 80, "data.nearest.valid": 8},
    "data.source=numerals": {
        "data.numerals_heldout": 20,
        "data.numerals_max": 400,
        "data.numerals_train": 100,
    },
}


def small(config):
    """The configuration with the numbers of SMALL."""
    there = dict(flatten(config))
    for condition, knobs in SMALL.items():
        name, _, value = condition.partition("=")
        if there.get(name, "") == value:
            config.update_from_flattened_dict(
                {knob: value for knob, value in knobs.items() if knob in there}
            )
    return config


def load(file):
    """As ``tfm_jax.config.load``, and small."""
    return small(configs.load(file))
