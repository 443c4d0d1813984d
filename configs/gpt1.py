"""GPT-1 on running text (Radford et al. 2018).

Published set-up: 12 layers, Post-LN, rows of 512 tokens of a BPE with 40,000 merges, 64
rows a step, Adam with 0.01 of decoupled weight decay on matrices, 2.5e-4 after 2,000
steps of warm-up and down to 0 by a cosine, dropout 0.1, 100 epochs of BooksCorpus.
Deviates: the BPE is byte-level; the number of steps was not published.

Run     python -m tfm_jax.main --config=configs/gpt1.py --workdir=runs/gpt1 \
          --config.data.folder=FOLDER_OF_TXT_FILES
        python -m tfm_jax.main --config=configs/gpt1.py:tiny \
          --workdir=runs/gpt1_tiny
Sizes   gpt1 (default), and tiny, which reads the documentation that comes with Python
Expect  published perplexity 18.4 on BooksCorpus
Cost    100 epochs of a billion tokens: a month of 8 GPUs of its time; tiny: minutes on
        2 cores
"""

from tfm_jax.models import gpt
from tfm_jax.settings.configure import configure, every

SIZES = {
    "gpt1": dict(
        model=gpt.SIZES["gpt1"],
        data=dict(source="folder", length=512),
        tokenizer=dict(vocab=40_478),
        optim=dict(peak_lr=2.5e-4, warmup_steps=2_000),
        train=dict(total_steps=3_000_000, batch_tokens=64 * 512),
        **every(5_000),
    ),
    "tiny": dict(
        model=gpt.SIZES["gpt1"]
        | dict(width=64, heads=2, ffn_width=256, depth=2, max_length=64, init="glorot"),
        data=dict(source="pydocs", length=64),
        tokenizer=dict(vocab=1_000),
        optim=dict(peak_lr=2e-3, warmup_steps=100),
        train=dict(total_steps=1_000, batch_tokens=1_024),
        **every(200),
    ),
}


def get_config(size="gpt1"):
    return configure(
        "gpt",
        "causal_lm",
        SIZES[size],
        tokenizer=dict(special=("_start_", "_delimiter_", "_classify_")),
        optim=dict(b2=0.999, final_lr_fraction=0.0, weight_decay=0.01),
    )
