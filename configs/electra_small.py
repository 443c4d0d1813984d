"""ELECTRA on running text (Clark et al. 2020, arXiv:2003.10555).

Published set-up (tables 6 and 7 of the appendix): tables of 128, a generator a quarter
as wide, 15 % of the words asked for of which 85 % are masked and none is random, 128
rows of 128 tokens a step, a million steps of Adam without bias correction, 5e-4 after
10,000 steps of warm-up and linear decay from the first step on, 0.01 of weight decay,
50 times the discriminator's loss.

Run     python -m tfm_jax.main --config=configs/electra_small.py \
          --workdir=runs/electra --config.data.folder=FOLDER_OF_TXT_FILES
        python -m tfm_jax.main --config=configs/electra_small.py:tiny \
          --workdir=runs/electra_tiny
Sizes   small (default), base, large, and tiny, which reads the documentation that comes
        with Python
Expect  published GLUE 80.0 on the development sets for small
Cost    16 B tokens, four days of a V100 in the paper; tiny: minutes on 2 cores
"""

from tfm_jax.models import electra
from tfm_jax.settings.configure import configure, every


def _published(size, steps, rate, rows, length=512, mask_rate=0.15):
    return dict(
        model=electra.SIZES[size],
        data=dict(
            source="folder",
            length=length,
            masking=dict(most=int(length * mask_rate) + 1, mask_rate=mask_rate),
        ),
        tokenizer=dict(vocab=30_522),
        optim=dict(optimizer="bert_adam", peak_lr=rate, warmup_steps=10_000),
        train=dict(total_steps=steps, batch_tokens=rows * length),
        **every(10_000),
    )


SIZES = {
    "small": _published("small", 1_000_000, 5e-4, 128, length=128),
    "base": _published("base", 766_000, 2e-4, 256),
    "large": _published("large", 400_000, 2e-4, 2_048, mask_rate=0.25),
    "tiny": dict(
        model=dict(
            width=64,
            heads=2,
            ffn_width=256,
            depth=2,
            embedding_width=64,
            generator_width=32,
            generator_heads=1,
            generator_ffn_width=128,
            generator_depth=2,
            max_length=64,
            init="glorot",
        ),
        data=dict(source="pydocs", length=64, masking=dict(most=10)),
        tokenizer=dict(vocab=1_000),
        optim=dict(optimizer="adamw", peak_lr=4e-3, warmup_steps=100),
        train=dict(total_steps=1_500, batch_tokens=1_024),
        **every(500),
    ),
}


def get_config(size="small"):
    return configure(
        "electra",
        "replaced_tokens",
        SIZES[size],
        data=dict(pairs=dict(kind="none"), masking=dict(mask=0.85, random=0.0)),
        tokenizer=dict(kind="wordpiece"),
    )
