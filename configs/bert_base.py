"""BERT on running text (Devlin et al. 2019, arXiv:1810.04805).

Published set-up: WordPiece of 30,522, masked words and next sentences, 256 rows a step,
a million steps, nine tenths of them with rows of 128 tokens and the rest of 512; Adam
without bias correction, 1e-4 after 10,000 steps of warm-up, decayed linearly, 0.01 of
weight decay, clipped at 1, dropout 0.1. Deviates: all rows have 128 tokens (go on with
--config.init_from and --config.data.length=512); the decay begins after the warm-up;
masks are drawn anew each time (--config.data.masking.draw=static: ten copies).

Run     python -m tfm_jax.main --config=configs/bert_base.py --workdir=runs/bert \
          --config.data.folder=FOLDER_OF_TXT_FILES
        python -m tfm_jax.main --config=configs/bert_base.py:tiny \
          --workdir=runs/bert_tiny
Sizes   base (default), large, medium, small, mini, and tiny, which reads the
        documentation that comes with Python and has no sentence pairs
Expect  published perplexity 3.99 on masked words (table 6, 12 layers of 768)
Cost    33 B tokens; tiny: minutes on 2 cores
"""

from tfm_jax.models import bert
from tfm_jax.settings.configure import configure, every


def _published(size):
    return dict(
        model=bert.SIZES[size],
        data=dict(source="folder", length=128),
        tokenizer=dict(vocab=30_522),
        optim=dict(optimizer="bert_adam", peak_lr=1e-4, warmup_steps=10_000),
        train=dict(total_steps=1_000_000, batch_tokens=256 * 128),
        **every(10_000),
    )


SIZES = {
    **{size: _published(size) for size in ("base", "large", "medium", "small", "mini")},
    "tiny": dict(
        model=dict(
            width=64,
            heads=2,
            ffn_width=256,
            depth=2,
            max_length=64,
            head="masked_lm",
            init="glorot",
        ),
        data=dict(
            source="pydocs",
            length=64,
            pairs=dict(kind="none"),
            masking=dict(most=10),
        ),
        tokenizer=dict(vocab=1_000),
        optim=dict(optimizer="adamw", peak_lr=4e-3, warmup_steps=100),
        train=dict(total_steps=1_500, batch_tokens=1_024),
        **every(500),
    ),
}


def get_config(size="base"):
    return configure("bert", "masked_lm", SIZES[size], tokenizer=dict(kind="wordpiece"))
