"""Transformer on WMT14 English to German (Vaswani et al. 2017, tables 2 and 3).

The data is wmt14_translate/de-en as TensorFlow Datasets prepares it; reading it needs
no TensorFlow. Preparing it does, once, on any machine: the message of a run without
data names the command.

Run     python -m tfm_jax.main --config=configs/transformer_wmt.py --workdir=runs/base
Ablate  append --config.model.norm=pre --config.optim.warmup_steps=8000
Sizes   base (default), big, and the others of models/transformer.py
Expect  paper 27.3 (base), 28.4 (big) BLEU on newstest2014, tokenised and with compounds
        split, which sacreBLEU scores about 0.7 lower; ours: not measured
Cost    paper: 3.3e18 (base), 2.3e19 (big) floating point operations
"""

from tfm_jax.models import transformer
from tfm_jax.settings.configure import configure

TRAINING = {  # peak rate is (width * warm-up)^-0.5; steps, checkpoints averaged
    "base": dict(peak_lr=7e-4, total_steps=100_000, average_last=5),
    "big": dict(peak_lr=4.9e-4, total_steps=300_000, average_last=20),
}


def get_config(size="base"):
    training = TRAINING["big" if size == "big" else "base"]
    return configure(
        "transformer",
        "translation",
        model=transformer.SIZES[size],
        data=dict(
            source="tfds",
            tfds_name="wmt14_translate/de-en",
            source_length=256,
            target_length=256,
        ),
        tokenizer=dict(kind="bpe", vocab=37_000),
        optim=dict(peak_lr=training["peak_lr"], warmup_steps=4_000),
        train=dict(total_steps=training["total_steps"], batch_tokens=25_000),
        eval=dict(average_last=training["average_last"]),
        checkpoint=dict(every_steps=1_500, keep=training["average_last"]),
    )
