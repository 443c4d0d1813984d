"""Numbers below 10,000 from English to German by a model of a quarter million weights.

What studies run on a CPU: a run takes seconds on one core, so that five seeds of six
arms are there before one has read the question. What needs depth, width or much data
cannot be seen at this size.

Run     python -m tfm_jax.main --config=configs/transformer_numerals_small.py \
          --workdir=runs/small
Sizes   tiny (default) at half its width, small, base, big
"""

from ml_collections import ConfigDict

from tfm_jax import mesh
from tfm_jax.config import section
from tfm_jax.data.rows import pairs
from tfm_jax.data.tokenizers import bilingual
from tfm_jax.models import transformer
from tfm_jax.optim import optimizers
from tfm_jax.runs import checkpoint
from tfm_jax.settings.sections import EvalConfig, TrainConfig

SIZES = transformer.SIZES | {
    "tiny": transformer.SIZES["tiny"] | dict(width=64, ffn_width=256)
}


def get_config(size="tiny"):
    c = ConfigDict(
        dict(
            seed=0,
            model_name="transformer",
            task="translation",
            init_from="",
            freeze="",
        )
    )
    c.model = section(transformer.Config, **SIZES[size])
    c.data = section(
        pairs.Config,
        source="numerals",
        numerals_max=9_999,
        numerals_train=3_000,
        numerals_heldout=500,
        source_length=32,
        target_length=32,
    )
    c.tokenizer = section(bilingual.Config, kind="bpe", vocab=400)
    c.optim = section(optimizers.Config, peak_lr=2e-3, warmup_steps=50)
    c.train = section(TrainConfig, total_steps=400, batch_tokens=512)
    c.eval = section(EvalConfig, every_steps=50, sentences=0, beam=1)
    c.checkpoint = section(checkpoint.Config, every_steps=400, keep=1, metric="nll")
    c.mesh = section(mesh.Config, cpu_devices=1)
    return c
