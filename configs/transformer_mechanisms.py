"""Synthetic tasks for encoder-decoders: copy, reverse, sort, recall and others.

A prompt is the source, its answers are the target: of "k1 v4 k0 v2 , k0" it is the
value of the key k0, "v2". See tfm_jax/data/sources/mechanisms/tasks.py.

Run     python -m tfm_jax.main --config=configs/transformer_mechanisms.py \
          --workdir=runs/reverse
        python -m tfm_jax.main --config=configs/transformer_mechanisms.py:recall \
          --workdir=runs/recall
Ablate  append --config.model.positions=none or --config.model.heads=1
Sizes   one for each task: reverse (default), copy, sort, recall, and so on
"""

from tfm_jax.data.sources.mechanisms.examples import SIZES
from tfm_jax.models import transformer
from tfm_jax.settings.configure import configure


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
