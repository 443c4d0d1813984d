"""A language model of Shakespeare's characters (Karpathy's nanoGPT).

Published set-up, on a CPU: 4 layers, width 128, 4 heads, no biases and no dropout, rows
of 64 characters, 12 in a batch, 2,000 steps of AdamW from 1e-3 down to 1e-4. The last
tenth of the text is held out. Deviates: rows are cut from the text once and read in a
new order each time, there they begin at random places.

Run     python -m tfm_jax.main --config=configs/shakespeare_char.py \
          --workdir=runs/shakespeare --config.data.train_files=input.txt
Sizes   shakespeare (default), and those of models/gpt.py
Expect  published 1.88 nats a character on the held-out text
Cost    1.5 M characters: minutes on 2 cores
"""

from ml_collections import ConfigDict

from tfm_jax.config import section
from tfm_jax.data import causal_text, language
from tfm_jax.models import gpt
from tfm_jax.train import checkpoint, mesh, optim
from tfm_jax.train.sections import EvalConfig, TrainConfig


def get_config(size="shakespeare"):
    c = ConfigDict(
        dict(seed=0, model_name="gpt", task="causal_lm", init_from="", freeze="")
    )
    c.model = section(gpt.Config, **gpt.SIZES[size])
    c.data = section(causal_text.Config, source="files", valid_share=0.1, length=64)
    c.tokenizer = section(language.TokenizerConfig, kind="character")
    c.optim = section(
        optim.Config,
        **dict(optimizer="adamw", schedule="cosine", peak_lr=1e-3, warmup_steps=100),
        **dict(final_lr_fraction=0.1, b2=0.99, eps=1e-8, weight_decay=0.1),
        **dict(decay="kernels_and_tables", clip_norm=1.0),
    )
    c.train = section(
        TrainConfig,
        **dict(total_steps=2_000, batch_tokens=12 * 64, label_smoothing=0.0),
    )
    c.eval = section(EvalConfig, every_steps=250)
    c.checkpoint = section(checkpoint.Config, every_steps=250, metric="nll")
    c.mesh = section(mesh.Config)
    return c
