"""Translation sets of TensorFlow Datasets, read without TensorFlow."""

from tfm_jax.data.errors import DataError


def load(cfg, split):
    """The pairs of one split: (sources, targets, report)."""
    raise DataError("data.source='tfds' is not there yet")
