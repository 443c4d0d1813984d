"""Made tasks for models that translate: copy, reverse, sort, look up, and others.

A prompt is the source, its answers are the target: "k1 v4 k0 v2 , k0" asks for what
stood behind k0, "v2". See tfm_jax/data/sources/mechanisms/tasks.py.

Run     python -m tfm_jax.main --config=configs/transformer_mechanisms.py \
          --workdir=runs/reverse
        python -m tfm_jax.main --config=configs/transformer_mechanisms.py:recall \
          --workdir=runs/recall
Ablate  append --config.model.positions=none or --config.model.heads=1
Sizes   one for each task: reverse (default), copy, sort, recall, and so on
"""

from tfm_jax.models import transformer
from tfm_jax.settings.configure import configure

SIZES = {  # what differs from 8 symbols of 16
    "reverse": {},
    "copy": {},
    "sort": {},
    "recall": dict(shortest=1, queries=8),
    "induction": dict(queries=4, symbols=32),
    "selective_copy": dict(fillers=16),
    "count": dict(symbols=4),
    "parity": dict(length=12, train=2_000),
    "brackets": dict(symbols=3),
    "modular_sum": dict(length=2, symbols=47, train=1_500),
    "relations": dict(length=12, symbols=8, relations=3),
}


def get_config(task="reverse"):
    return configure(
        "transformer",
        "translation",
        model=transformer.SIZES["tiny"] | dict(width=64, ffn_width=256),
        data=dict(
            source="mechanisms",
            mechanism=dict(task=task) | SIZES[task],
            source_length=40,
            target_length=40,
        ),
        tokenizer=dict(kind="word", vocab=1_000),
        optim=dict(peak_lr=2e-3, warmup_steps=100),
        train=dict(total_steps=1_000, batch_tokens=1_024, label_smoothing=0.0),
        eval=dict(every_steps=250, sentences=0, beam=1),
        checkpoint=dict(every_steps=1_000, keep=1),
        mesh=dict(cpu_devices=1),
    )
