"""Made tasks that show what a causal language model can do, and what it cannot.

"k1 v4 k0 v2 , k0 =" asks for what stood behind k0: each answer follows from the text
before it, and only answers are predicted. See tfm_jax/data/sources/mechanisms/tasks.py.

Run     python -m tfm_jax.main --config=configs/gpt_mechanisms.py --workdir=runs/recall
        python -m tfm_jax.main --config=configs/gpt_mechanisms.py:sort --workdir=runs/s
Ablate  append --config.model.positions=none or --config.model.depth=1
Sizes   one for each task: recall (default), copy, reverse, sort, induction, and so on
"""

from tfm_jax.settings.configure import configure

SIZES = {  # what differs from 8 symbols of 16
    "recall": dict(shortest=1, queries=8),
    "copy": {},
    "reverse": {},
    "sort": {},
    "induction": dict(queries=4, symbols=32),
    "selective_copy": dict(fillers=16),
    "count": dict(symbols=4),
    "parity": dict(length=12, train=2_000),
    "brackets": dict(symbols=3),
    "modular_sum": dict(length=2, symbols=47, train=1_500),
    "relations": dict(length=12, symbols=8, relations=3),
}


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
