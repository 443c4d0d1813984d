"""What most studies are run on, and how carefully; a study may say otherwise."""

from collections.abc import Mapping
from typing import Any


def steps(count: int) -> dict[str, Any]:
    """Settings of so many steps, evaluated four times."""
    return {
        "train.total_steps": count,
        "eval.every_steps": count // 4,
        "checkpoint.every_steps": count,
    }


def tuned(
    scale: Mapping[str, Any],
    *rates: float,
    knob: str = "optim.peak_lr",
    seeds: tuple[int, ...] = (1_000,),
) -> Any:
    """The same, each arm at the best of these rates by seeds that are not used again.

    Args: seeds: several where a large rate fails by chance.
    """
    settings = {k: v for k, v in scale.get("settings", {}).items() if k != knob}
    own = {"fixed_rate": "", "tune": {knob: rates}, "tune_seeds": seeds}
    return {**scale, "settings": settings, **own}


NUMERALS = dict(  # a study of five arms takes some minutes on two cores
    config="configs/transformer_numerals_small.py",
    seeds=(0, 1, 2, 3, 4),
    sesoi=0.05,
    fixed_rate="one rate, the configuration's, for all arms",
)
TUNED_NUMERALS = tuned(NUMERALS, 1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2)
# Synthetic tasks that show an effect; a run takes half a minute on one core.
RELATIONS = dict(  # each word names the three before it: three lookups at once
    config="configs/transformer_mechanisms.py:relations",
    seeds=(0, 1, 2, 3, 4),
    sesoi=0.02,
    tune={"optim.peak_lr": (2e-3, 4e-3, 8e-3, 1.6e-2)},
    tune_seeds=(1_000,),
    settings={
        "model.encoder_depth": 1,
        "model.decoder_depth": 1,
        "data.mechanism.train": 20_000,
    }
    | steps(300),
)
NEAREST = dict(  # which of eight vectors of 16 entries is nearest to a noisy one
    config="configs/vit_nearest.py",
    seeds=(0, 1, 2, 3, 4),
    sesoi=0.05,
    tune={"optim.peak_lr": (1e-3, 2e-3, 4e-3, 8e-3)},
    tune_seeds=(1_000,),
    settings=steps(600),
)
MULTI30K = dict(  # the published set-up; a run takes minutes on a GPU
    config="configs/transformer_multi30k.py",
    seeds=(0, 1, 2, 3, 4),
    sesoi=0.02,
    tune={"optim.peak_lr": (2e-3, 5e-3, 1e-2)},
    tune_seeds=(1_000,),
)
# The tiny configurations read the documentation that comes with Python; a run takes
# half a minute on one core.
TEXT = dict(
    seeds=(0, 1, 2, 3, 4),
    sesoi=0.05,
    fixed_rate="one rate, the configuration's, for all arms",
)
# The same by a causal model, each arm at the best of five rates.
LANGUAGE = tuned(
    TEXT
    | dict(
        config="configs/gpt2_small.py:tiny",
        settings={"eval.samples": 0} | steps(1_000),
    ),
    *(2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2),
)
# Of such models, whose token vectors are not scaled otherwise: beside sinusoids, whose
# entries are 0.7 in size, theirs of 0.1 would tell next to nothing.
SINUSOIDS = {
    "sinusoidal": {
        "model.positions": "sinusoidal",
        "model.embedding_scale": True,
    }
}
# Rows of letters, of which a model of 64 wide learns a lot in two minutes if it finds
# neighbours by their distance; with a table of positions it learns for thousands of
# steps frequencies alone, and to copy what is not masked. Labels stand on the mean of
# all states, as nothing has taught [CLS] to look at the others: docs/pretraining.md.
LETTERS = {
    "model.positions": "rotary",
    "data.length": 128,
    "tokenizer.kind": "wordpiece",
    "tokenizer.vocab": 120,
    "optim.peak_lr": 2e-3,
}
MASKED_LETTERS = LETTERS | {
    "data.masking.most": 20,
    "data.masking.whole_words": False,
    "train.batch_tokens": 16 * 128,
}


def letters_first(steps: int) -> Any:
    """Settings: masked letters for so many steps, then sentences with labels."""
    first = MASKED_LETTERS | {"train.total_steps": steps}
    second = LETTERS | {"train.total_steps": 500, "train.batch_tokens": 32 * 128}
    second |= {"model.pool": "mean"}
    return second | {f"first.{name}": value for name, value in first.items()}


# On a GPU they are the smallest published sizes, on text of one's own:
# --set config.data.source=folder --set config.data.folder=FOLDER
LARGE_TEXT = dict(
    seeds=(0, 1, 2, 3, 4),
    sesoi=0.02,
    tune={"optim.peak_lr": (3e-4, 6e-4, 1.2e-3)},
    tune_seeds=(1_000,),
)

# Encoder-decoders of several families: an arm may start from the configuration of
# another one, so that whatever is not its own is said here. A run of 600 steps takes
# about a minute on one core.
_SEQ2SEQ = {
    "tokenizer.kind": "bpe",
    "train.label_smoothing": 0.0,
    "optim.clip_norm": 1.0,
    "eval.beam": 1,
    "eval.sentences": 0,
    "eval.samples": 0,
    "mesh.cpu_devices": 1,
}
NUMBERS = _SEQ2SEQ | {  # those of transformer_numerals_small
    "data.source": "numerals",
    "data.numerals_max": 9_999,
    "data.numerals_train": 3_000,
    "data.numerals_heldout": 500,
    "data.source_length": 32,
    "data.target_length": 32,
    "tokenizer.vocab": 400,
    "optim.warmup_steps": 50,
    "train.total_steps": 600,
    "train.batch_tokens": 512,
    "eval.every_steps": 100,
    "checkpoint.every_steps": 600,
    "checkpoint.keep": 1,
}
_SMALL = {  # about as many parameters as a Transformer of width 64
    "model.tie": "three_way",
    "model.embedding_width": 64,
    "model.readout_width": 64,
}
RECURRENT = dict(  # with attention; a run takes about a minute on one core
    config="configs/rnn_numerals.py",
    seeds=(0, 1, 2, 3, 4),
    sesoi=0.05,
    fixed_rate="one rate for all arms",
    settings=NUMBERS | _SMALL | {"model.width": 90, "optim.peak_lr": 4e-3},
)
TUNED_RECURRENT = tuned(RECURRENT, 1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2)
LARGE_RECURRENT = dict(  # a run takes some minutes on a GPU
    config="configs/rnn_multi30k.py",
    seeds=(0, 1, 2, 3, 4),
    sesoi=0.02,
    tune={"optim.peak_lr": (5e-4, 1e-3, 2e-3)},
    tune_seeds=(1_000,),
)
# German to English; the files are the user's to name
CAPTIONS = _SEQ2SEQ | steps(800)
CAPTIONS |= {
    "data.source": "parallel",
    "data.source_language": "de",
    "data.target_language": "en",
    "data.normalize": "moses_lowercase",
    "data.source_length": 48,
    "data.target_length": 48,
    "tokenizer.vocab": 4_000,
    "optim.warmup_steps": 100,
    "train.batch_tokens": 1_024,
    "checkpoint.keep": 1,
}
SYNTHETIC = _SEQ2SEQ | {
    "data.source": "mechanisms",
    "tokenizer.kind": "word",
    "train.batch_tokens": 1_024,
    "checkpoint.keep": 1,
}
# sentences of at most 10 and of at least 15 words: a third and a quarter of them
BY_LENGTH = {
    "eval.variants": ("short:heldout_words_most=10", "long:heldout_words_least=15")
}

# Images with a class each. Of the digits, 575 validate: one of them is 0.17 %.
DIGITS: dict[str, Any] = dict(  # a run takes half a minute on one core
    config="configs/vit_digits.py",
    seeds=tuple(range(10)),
    metric="valid/accuracy",
    goal="max",
    sesoi=0.01,
    fixed_rate="one rate, the configuration's, for all arms",
    settings={
        "data.valid_share": 0.3,
        "data.test_share": 0.0,
        "checkpoint.keep": 1,
    }
    | steps(800),
)
TUNED_DIGITS = tuned(DIGITS, 5e-4, 1e-3, 2e-3, 4e-3, 8e-3)
LONG_DIGITS = DIGITS | dict(  # five times as long
    seeds=(0, 1, 2, 3, 4), settings=DIGITS["settings"] | steps(4_000)
)
# ViT-Lite-7/4 (Hassani et al. 2021, arXiv:2104.05704), 3.7 million parameters, for 100
# epochs; TFDS must have prepared the images.
CIFAR10 = DIGITS | dict(
    seeds=(0, 1, 2, 3, 4),
    sesoi=0.005,
    settings={
        "model.image_size": (32,),
        "model.patch_size": (4,),
        "model.channels": 3,
        "model.depth": 7,
        "model.width": 256,
        "model.heads": 4,
        "model.ffn_width": 512,
        "data.source": "tfds",
        "data.tfds_name": "cifar10",
        "data.tfds_test": "test",
        "data.augment.crop_padding": 4,
        "data.augment.flip": 0.5,
        "optim.peak_lr": 5e-4,
        "optim.warmup_steps": 3_500,
        "train.total_steps": 35_000,
        "train.batch_tokens": 128,
        "eval.every_steps": 3_500,
        "checkpoint.every_steps": 3_500,
        "checkpoint.keep": 1,
        "mesh.cpu_devices": 0,
    },
)

# Diffusion on images of 8 x 8 pixels; a run takes about a minute on one core. Drawn
# images are measured by a classifier that has not seen those held out here, which must
# be there before: python -m tfm_jax.main --config=configs/vit_digits.py
# --workdir=runs/digits
DRAWN_DIGITS = {
    "data.valid_share": 0.2,
    "train.ema_decay": 0.99,
    "eval.samples": 500,
    "eval.judge": "runs/digits",
    "checkpoint.keep": 1,
    "mesh.cpu_devices": 1,
} | steps(2_000)
DIFFUSION = dict(
    config="configs/dit_digits.py",
    seeds=(0, 1, 2, 3, 4),
    sesoi=0.002,
    fixed_rate="one rate, the configuration's, for all arms",
    settings=DRAWN_DIGITS,
)
LONG_DIFFUSION = DIFFUSION | dict(  # as many steps as docs/digits.md
    settings=DRAWN_DIGITS | steps(10_000)
)
# CIFAR-10 by TFDS; the classifier: --config=configs/vit_digits.py:small
# --config.data.source=tfds --config.data.tfds_name=cifar10
# --config.model.image_size=32 --config.model.patch_size=4 --config.model.channels=3
# --config.train.total_steps=50000 --workdir=runs/cifar10
DRAWN_CIFAR10 = {
    "data.source": "tfds",
    "data.tfds_name": "cifar10",
    "data.tfds_valid": "test",
    "data.augment.flip": 0.5,
    "data.noise.steps": 1_000,
    "data.noise.grey_levels": 256,
    "data.sampler.steps": 250,
    "train.total_steps": 100_000,
    "train.batch_tokens": 128,
    "train.ema_decay": 0.9999,
    "eval.every_steps": 10_000,
    "eval.samples": 10_000,
    "eval.judge": "runs/cifar10",
    "checkpoint.every_steps": 10_000,
    "checkpoint.keep": 1,
    "mesh.cpu_devices": 0,
}
LARGE_DIFFUSION = DIFFUSION | dict(  # DiT-S/4
    seeds=(0, 1, 2),
    settings=DRAWN_CIFAR10
    | {
        "model.image_size": (32,),
        "model.channels": 3,
        "model.patch_size": (4,),
        "model.depth": 12,
        "model.width": 384,
        "model.heads": 6,
        "model.ffn_width": 1_536,
        "optim.schedule": "constant",
        "optim.peak_lr": 1e-4,
    },
)

# Rendered scenes: captions by parts that must be there before, see docs/scenes.md.
# Without a resampler places are learnt soonest. A run takes a minute and a half on one
# core.
SCENES_VISION = "vision=runs/qformer"
_SCENES = {
    "data.scenes.texts": "captions",
    "data.scenes.train": 16_000,
    "data.scenes.valid": 300,
    "data.scenes.test": 0,
    "eval.variants": (),
    "checkpoint.keep": 1,
}


SCENES: dict[str, Any] = dict(
    config="configs/flamingo_scenes.py",
    seeds=(0, 1, 2),
    sesoi=0.02,
    fixed_rate="one rate, the configuration's, for all arms",
    settings=_SCENES
    | steps(400)
    | {
        "init_from": f"lm=runs/scenes_lm4,{SCENES_VISION}",
        "model.lm.depth": 4,
        "model.lm.width": 64,
        "model.lm.ffn_width": 256,
        "model.lm.positions": "learned",
        "model.lm.max_length": 64,
        "model.resampler.kind": "none",
        "data.shots": 0,
        "data.length": 24,
        "train.batch_tokens": 64 * 24,
        "optim.peak_lr": 2e-3,
        "eval.sentences": 0,
        "optim.warmup_steps": 50,
    },
)
TUNED_SCENES = tuned(SCENES, 2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2)
LARGE_SCENES = SCENES | dict(
    seeds=(0, 1, 2, 3, 4),
    settings=SCENES["settings"] | steps(20_000) | {"data.scenes.train": 200_000},
)
# The same scenes, and which caption belongs to which; as long.
RETRIEVED_SCENES: dict[str, Any] = SCENES | dict(
    config="configs/qformer_scenes.py",
    metric="valid/text_recall_1",
    goal="max",
    settings=_SCENES | steps(400) | {"eval.samples": 100},
)
LARGE_RETRIEVED_SCENES = RETRIEVED_SCENES | dict(
    seeds=(0, 1, 2, 3, 4),
    settings=RETRIEVED_SCENES["settings"]
    | steps(20_000)
    | {"data.scenes.train": 200_000},
)
