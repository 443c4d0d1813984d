"""GPT-3 on running text (Brown et al. 2020, arXiv:2005.14165, table 2.1, appendix B).

Published set-up: GPT-2's model with layers that are dense and banded in turn, rows of
2,048 tokens, half a million to 3.2 million tokens a step, Adam (0.9, 0.95) with 0.1 of
weight decay, clipped at 1, a warm-up of 375 M tokens and a cosine down to a tenth over
260 B tokens, 300 B in all. Deviates: the batch does not grow from 32,000 tokens; the
cosine ends with the run; the width of the bands was never published, here it is 256.

Run     python -m tfm_jax.main --config=configs/gpt3_small.py --workdir=runs/gpt3 \
          --config.data.folder=FOLDER_OF_TXT_FILES
        python -m tfm_jax.main --config=configs/gpt3_small.py:tiny \
          --workdir=runs/gpt3_tiny
Sizes   gpt3_small (default), gpt3_medium, gpt3_large, gpt3_xl, gpt3_2.7b, gpt3_6.7b,
        gpt3_13b, gpt3_175b, and tiny, which reads the documentation that comes with
        Python
Expect  no loss was published for text that can be had; tiny learns words of the
        documentation
Cost    300 B tokens; tiny: minutes on 2 cores
"""

from tfm_jax.models import gpt
from tfm_jax.settings.configure import configure, every

OFF = dict(dropout=0.0, attention_dropout=0.0, embedding_dropout=0.0)
TOKENS = 300e9


def _published(size, millions, rate):
    tokens = int(millions * 2**20)
    return dict(
        model=gpt.SIZES[size] | OFF,
        data=dict(source="folder", length=2_048, separator="<|endoftext|>"),
        tokenizer=dict(vocab=50_257),
        optim=dict(peak_lr=rate, warmup_steps=int(375e6 / tokens)),
        train=dict(
            total_steps=int(TOKENS / tokens), batch_tokens=tokens, accumulate_steps=8
        ),
        **every(1_000),
    )


SIZES = {
    "gpt3_small": _published("gpt3_small", 0.5, 6e-4),
    "gpt3_medium": _published("gpt3_medium", 0.5, 3e-4),
    "gpt3_large": _published("gpt3_large", 0.5, 2.5e-4),
    "gpt3_xl": _published("gpt3_xl", 1.0, 2e-4),
    "gpt3_2.7b": _published("gpt3_2.7b", 1.0, 1.6e-4),
    "gpt3_6.7b": _published("gpt3_6.7b", 2.0, 1.2e-4),
    "gpt3_13b": _published("gpt3_13b", 2.0, 1e-4),
    "gpt3_175b": _published("gpt3_175b", 3.2, 0.6e-4),
    "tiny": dict(
        model=dict(width=64, heads=2, ffn_width=256, depth=2, max_length=64)
        | dict(windows=(0, 16), init="glorot")
        | OFF,
        data=dict(source="pydocs", length=64, separator="<|endoftext|>"),
        tokenizer=dict(vocab=1_000),
        optim=dict(peak_lr=4e-3, warmup_steps=50),
        train=dict(total_steps=1_000, batch_tokens=1_024),
        **every(200),
    ),
}


def get_config(size="gpt3_small"):
    return configure("gpt", "causal_lm", SIZES[size])
