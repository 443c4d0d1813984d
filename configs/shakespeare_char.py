"""A language model of Shakespeare's characters (Karpathy's nanoGPT).

Published set-ups: on a CPU 4 layers, width 128, 4 heads and no dropout, rows of 64
characters, 12 in a batch, 2,000 steps; on a GPU 6 layers, width 384, 6 heads, dropout
0.2, rows of 256, 64 in a batch, 5,000 steps. No biases; AdamW from 1e-3 down to 1e-4.
The last tenth of the text is held out. Deviates: on a CPU the rate goes from 4e-3 to
4e-4, which learns far more in 2,000 steps; rows are cut from the text once and read in
a new order each time, there they begin at random places.

Run     python -m tfm_jax.main --config=configs/shakespeare_char.py \
          --workdir=runs/shakespeare --config.data.train_files=input.txt
        on a CPU with AMX --config.model.dtype=bfloat16 is 1.5 times as fast
Sizes   cpu (default), gpu
Expect  published 1.88 nats a character on the held-out text (cpu; here 1.76, and 1.90
        with --config.optim.peak_lr=1e-3, see docs/shakespeare.md), 1.4697 (gpu)
Cost    1.5 M characters: minutes on 2 cores (cpu); 82 M: minutes of a GPU (gpu)
"""

from tfm_jax.models import gpt
from tfm_jax.settings.configure import configure, every

SOME = dict(dropout=0.2, attention_dropout=0.2, embedding_dropout=0.2)

SIZES = {  # size -> (model, tokens of a row, rows, steps, peak rate, allreduce)
    "cpu": (gpt.SIZES["shakespeare"], 64, 12, 2_000, 4e-3, "fused"),
    "gpu": (
        dict(width=384, heads=6, ffn_width=1_536, depth=6, biases="none")
        | dict(max_length=256, norm_kind="layernorm_no_bias")
        | SOME,
        256,
        64,
        5_000,
        1e-3,
        "per_array",
    ),
}


def get_config(size="cpu"):
    model, length, rows, steps, rate, allreduce = SIZES[size]
    return configure(
        "gpt",
        "causal_lm",
        model=model,
        data=dict(source="files", valid_share=0.1, length=length),
        tokenizer=dict(kind="character"),
        optim=dict(peak_lr=rate, warmup_steps=100, b2=0.99),
        train=dict(total_steps=steps, batch_tokens=rows * length, row_multiple=4),
        **every(250),
        mesh=dict(gradient_allreduce=allreduce),
    )
