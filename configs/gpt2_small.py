"""GPT-2 on running text (Radford et al. 2019; training as in Karpathy's nanoGPT).

Published set-up: byte-level BPE of 50,257, rows of 1,024 tokens; Pre-LN. Of its
training the paper says little; nanoGPT reaches its loss with half a million tokens a
step, AdamW (0.9, 0.95) with 0.1 of weight decay, 6e-4 falling to 6e-5 over 600,000
steps after a warm-up of 2,000, gradients clipped at 1, no dropout.

Run     python -m tfm_jax.main --config=configs/gpt2_small.py --workdir=runs/gpt2 \
          --config.data.folder=FOLDER_OF_TXT_FILES
        python -m tfm_jax.main --config=configs/gpt2_small.py:tiny \
          --workdir=runs/gpt2_tiny
Sizes   gpt2_small (default), gpt2_medium, gpt2_large, gpt2_xl, and tiny, which reads
        the documentation that comes with Python
Expect  published 2.85 nats a token on OpenWebText for gpt2_small
Cost    300 B tokens: days of eight large GPUs; tiny: minutes on 2 cores
"""

from tfm_jax.models import gpt
from tfm_jax.settings.configure import configure, every

OFF = dict(dropout=0.0, attention_dropout=0.0, embedding_dropout=0.0)


def _published(size):
    return dict(
        model=gpt.SIZES[size] | OFF,
        data=dict(source="folder", length=1_024, separator="<|endoftext|>"),
        tokenizer=dict(vocab=50_257),
        optim=dict(peak_lr=6e-4, warmup_steps=2_000),
        train=dict(total_steps=600_000, batch_tokens=2**19, accumulate_steps=8),
        **every(1_000),
    )


SIZES = {
    "gpt2_small": _published("gpt2"),
    "gpt2_medium": _published("gpt2_medium"),
    "gpt2_large": _published("gpt2_large"),
    "gpt2_xl": _published("gpt2_xl"),
    "tiny": dict(
        model=dict(width=64, heads=2, ffn_width=256, depth=2, max_length=64)
        | dict(init="glorot")
        | OFF,
        data=dict(source="pydocs", length=64, separator="<|endoftext|>"),
        tokenizer=dict(vocab=1_000),
        optim=dict(peak_lr=4e-3, warmup_steps=50),
        train=dict(total_steps=1_000, batch_tokens=1_024),
        **every(200),
    ),
}


def get_config(size="gpt2_small"):
    return configure("gpt", "causal_lm", SIZES[size])
