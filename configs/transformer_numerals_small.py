"""Numbers below 10,000 from English to German by a model of a quarter million weights.

What studies run on a CPU: a run takes seconds on one core, so that five seeds of six
arms are there before one has read the question. What needs depth, width or much data
cannot be seen at this size.

Run     python -m tfm_jax.main --config=configs/transformer_numerals_small.py \
          --workdir=runs/small
Sizes   tiny (default) at half its width, small, base, big
"""

from tfm_jax.models import transformer
from tfm_jax.settings.configure import configure

SIZES = transformer.SIZES | {
    "tiny": transformer.SIZES["tiny"] | dict(width=64, ffn_width=256)
}


def get_config(size="tiny"):
    return configure(
        "transformer",
        "translation",
        model=SIZES[size],
        data=dict(
            source="numerals",
            numerals_max=9_999,
            numerals_train=3_000,
            numerals_heldout=500,
            source_length=32,
            target_length=32,
        ),
        tokenizer=dict(kind="bpe", vocab=400),
        optim=dict(peak_lr=2e-3, warmup_steps=50),
        train=dict(total_steps=400, batch_tokens=512),
        eval=dict(every_steps=50, sentences=0, beam=1),
        checkpoint=dict(every_steps=400, keep=1),
        mesh=dict(cpu_devices=1),
    )
