"""Synthetic tasks that show what a causal language model can do, and what it cannot.

"k1 v4 k0 v2 , k0 = v2": the answer is the value of the key k0. Each answer follows from
the text before it, and the prediction targets are the answers alone. See
tfm_jax/data/sources/mechanisms/tasks.py.

Run     python -m tfm_jax.main --config=configs/gpt_mechanisms.py --workdir=runs/recall
        python -m tfm_jax.main --config=configs/gpt_mechanisms.py:sort --workdir=runs/s
Ablate  append --config.model.positions=none or --config.model.depth=1
Sizes   one for each task: recall (default), copy, reverse, sort, induction, and so on
"""

from tfm_jax.data.sources.mechanisms.examples import SIZES
from tfm_jax.settings.configure import configure


def get_config(task="recall"):
    return configure(
        "gpt",
        "causal_lm",
        model=dict(
            width=64,
            heads=2,
            ffn_width=256,
            depth=2,
            max_length=64,
            init="glorot",
            dropout=0.0,
            attention_dropout=0.0,
            embedding_dropout=0.0,
        ),
        data=dict(
            source="mechanisms",
            mechanism=dict(task=task) | SIZES[task],
            layout="single",
            asked="answers",
            length=48,
        ),
        tokenizer=dict(kind="word"),
        optim=dict(peak_lr=2e-3, warmup_steps=100, weight_decay=0.0),
        train=dict(total_steps=2_000, batch_tokens=64 * 48),
        eval=dict(every_steps=500, samples=0),
        checkpoint=dict(every_steps=2_000, keep=1),
        mesh=dict(cpu_devices=1),
    )
