"""Spelled-out numbers from English to German by a convolutional model.

The task of transformer_numerals; "convolutions or attention?" is one flag, --config.

Run     python -m tfm_jax.main --config=configs/conv_numerals.py --workdir=runs/conv
Ablate  append --config.model.attention_layers=-1 or --config.model.weight_norm=false
Sizes   tiny (default), and those of models/conv_seq2seq.py
Expect  0.999 of 1,000 held-out numbers right, seed 0; 99 of 100 from step 250 on
Cost    1.07 M parameters, 1.5 M target tokens: ten minutes of 2 cores of a virtual
        machine that others keep busy
"""

from tfm_jax.models import conv_seq2seq
from tfm_jax.settings.configure import configure


def get_config(size="tiny"):
    return configure(
        "conv_seq2seq",
        "translation",
        model=conv_seq2seq.SIZES[size],
        data=dict(
            source="numerals",
            numerals_max=99_999,
            numerals_train=10_000,
            source_length=32,
            target_length=32,
        ),
        tokenizer=dict(kind="bpe", vocab=400),
        optim=dict(peak_lr=2e-3, warmup_steps=200),
        train=dict(total_steps=1_000, batch_tokens=2_048),
        eval=dict(every_steps=250, sentences=100, beam=1, samples=5),
        checkpoint=dict(every_steps=250),
    )
