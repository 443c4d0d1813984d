"""ALBERT on running text (Lan et al. 2020, arXiv:1909.11942).

Published set-up: 30,000 unigram pieces, tables of 128, all layers one; masked n-grams
of up to three words and the order of sentences; 4,096 rows of 512 tokens a step,
125,000 steps of LAMB, 1.76e-3 after 3,125 steps of warm-up, decayed linearly. Deviates:
LAMB is that of its paper, the release corrects no bias and takes norms and biases as
Adam would; masks are drawn anew each time, there 40 copies of each text are masked.

Run     python -m tfm_jax.main --config=configs/albert_base.py --workdir=runs/albert \
          --config.data.folder=FOLDER_OF_TXT_FILES
        python -m tfm_jax.main --config=configs/albert_base.py:tiny \
          --workdir=runs/albert_tiny
Sizes   base (default), large, xlarge, xxlarge, and tiny, which reads the documentation
        that comes with Python and is asked for single words: n-grams teach it nothing
        in so few steps
Expect  published accuracy 54.0 of masked words, 86.5 of the order (table 5, base)
Cost    262 B tokens; tiny: minutes on 2 cores
"""

from tfm_jax.models import albert
from tfm_jax.settings.configure import configure, every


def _published(size):
    return dict(
        model=albert.SIZES[size],
        data=dict(
            source="folder",
            length=512,
            masking=dict(most=77, ngrams=3, whole_words=True),
        ),
        tokenizer=dict(vocab=30_000),
        optim=dict(optimizer="lamb", peak_lr=1.76e-3, warmup_steps=3_125),
        train=dict(total_steps=125_000, batch_tokens=4_096 * 512, accumulate_steps=16),
        **every(2_500),
    )


SIZES = {
    **{size: _published(size) for size in albert.SIZES},
    "tiny": dict(
        model=dict(
            width=64,
            heads=2,
            ffn_width=256,
            depth=2,
            embedding_width=32,
            max_length=64,
            init="glorot",
        ),
        data=dict(source="pydocs", length=64, masking=dict(most=10, whole_words=True)),
        tokenizer=dict(vocab=1_000),
        optim=dict(optimizer="adamw", peak_lr=4e-3, warmup_steps=100),
        train=dict(total_steps=1_500, batch_tokens=1_024),
        **every(500),
    ),
}


def get_config(size="base"):
    return configure(
        "albert",
        "masked_lm",
        SIZES[size],
        data=dict(pairs=dict(kind="sop")),
        tokenizer=dict(kind="unigram"),
    )
