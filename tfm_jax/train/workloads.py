"""Tasks as the loop sees them: what stands around the train step.

Each is a module with ``Tokenizer``, ``Evaluator``, ``prepare``, ``batches``,
``to_model_inputs``, ``tokens``, ``size`` and ``finish``.
"""

from tfm_jax.settings.experiment import TASKS
from tfm_jax.train import language, translation

WORKLOADS = dict.fromkeys(TASKS, language) | {"translation": translation}
