"""What the loop needs to know of translation, from data to report."""

from tfm_jax.data import cache
from tfm_jax.data.batches import train_batches
from tfm_jax.data.rows.pairs import KIND
from tfm_jax.data.tokenizers.bilingual import Tokenizer
from tfm_jax.runs import runtime
from tfm_jax.train import report
from tfm_jax.train.evaluate import Evaluator, without_positions

__all__ = [
    "Evaluator",
    "Tokenizer",
    "batches",
    "finish",
    "prepare",
    "size",
    "to_model_inputs",
    "tokens",
]


def prepare(experiment, tokenizer=None):
    """The data of ``experiment``, out of the user's cache if it was prepared before."""
    sections = experiment.data, experiment.tokenizer
    directory = runtime.cache("data")
    return cache.prepared(KIND, *sections, directory, tokenizer=tokenizer)


def batches(experiment, data, **options):
    """Training batches, see ``batches.train_batches``."""
    return train_batches(experiment.data, data, **options)


def to_model_inputs(experiment, batch):
    """A batch as the model takes it."""
    return without_positions(experiment, batch)


def tokens(batch) -> int:
    """Target tokens of a batch, padding left out."""
    return int((batch.target_segments > 0).sum())


def size(data) -> str:
    """How much there is to train on, in words."""
    return f"{data.report['train']['kept']:,} pairs{report.left_out(data.report)}"


def finish(run, log) -> dict:
    """See ``report.finish``."""
    return report.finish(run, log)
