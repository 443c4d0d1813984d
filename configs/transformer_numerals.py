"""Spelled-out numbers from English to German, a translation task without a download.

"three hundred and five" -> "dreihundertfünf": the order of tens and units turns round,
words are joined, and the model sees a tenth of all numbers below 100,000, so it has to
learn how numbers are built. Held-out numbers are disjoint from those it trains on.

Run     python -m tfm_jax.main --config=configs/transformer_numerals.py --workdir=runs/n
Ablate  append --config.model.norm=pre --config.model.positions=rotary
Sizes   tiny (default), small, base, big: those of models/transformer.py
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
    c.model = section(transformer.Config, **transformer.SIZES[size])
    c.data = section(
        pairs.Config,
        source="numerals",
        numerals_max=99_999,
        numerals_train=10_000,
        source_length=32,
        target_length=32,
    )
    c.tokenizer = section(bilingual.Config, kind="bpe", vocab=400)
    c.optim = section(optimizers.Config, peak_lr=2e-3, warmup_steps=200)
    c.train = section(TrainConfig, total_steps=1_000, batch_tokens=2_048)
    c.eval = section(EvalConfig, every_steps=250, sentences=100, beam=1, samples=5)
    c.checkpoint = section(checkpoint.Config, every_steps=250, metric="nll")
    c.mesh = section(mesh.Config)
    return c
