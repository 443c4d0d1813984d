"""Tasks as the loop sees them: what stands around the train step.

Each is a module with ``Tokenizer``, ``Evaluator``, ``prepare``, ``batches``, ``seen``,
``size`` and ``finish``.
"""

from tfm_jax.train import language, translation

WORKLOADS = {"translation": translation, "causal_lm": language}
