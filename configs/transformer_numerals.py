"""Spelled-out numbers from English to German, a translation task without a download.

"three hundred and five" -> "dreihundertfünf": the order of tens and units turns round,
words are joined, and the model sees a tenth of all numbers below 100,000, so it has to
learn how numbers are built. Held-out numbers are disjoint from those it trains on.

Run     python -m tfm_jax.main --config=configs/transformer_numerals.py --workdir=runs/n
Ablate  append --config.model.norm=pre --config.model.positions=rotary
Sizes   tiny (default), small, base, big: those of models/transformer.py
"""

from tfm_jax.models import transformer
from tfm_jax.settings.configure import configure


def get_config(size="tiny"):
    return configure(
        "transformer",
        "translation",
        model=transformer.SIZES[size],
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
