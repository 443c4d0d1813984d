"""What a run costs, known before it runs: parameters and operations of a step."""

import jax

from experiments import cells
from tfm_jax.data import pipeline
from tfm_jax.train import program
from tfm_jax.train.evaluate import without_positions
from tfm_jax.train.experiment import Experiment, complete
from tfm_jax.train.loop import ROWS


def measure(experiment: Experiment) -> dict[str, float]:
    """``parameters``, and of one train step ``flops_per_step`` and ``tokens_per_step``.

    Operations are XLA's count for the whole step before it is optimised; tokens are
    target tokens, padding left out. Nothing is compiled or run.
    """
    data = cells.data_of(experiment.data, experiment.tokenizer)
    experiment = complete(experiment, data.tokenizer)
    functions = program.build(experiment)
    state = jax.eval_shape(functions.init, 0)
    batch = first_batch(experiment, data)
    batch = jax.tree.map(lambda x: x[None], batch)  # one micro-batch
    step = jax.jit(functions.train_step).lower(state, batch)
    return {
        "parameters": sum(x.size for x in jax.tree.leaves(state.params)),
        "flops_per_step": float(step.cost_analysis()["flops"]),
        "tokens_per_step": int((batch.target_segments > 0).sum()),
    }


def first_batch(experiment: Experiment, data):
    """What the first train step of a run sees, as one ``Batch``."""
    batches = pipeline.train_batches(
        experiment.data,
        data.train,
        batch_tokens=experiment.train.batch_tokens,
        total_batches=1,
        seed=experiment.seed,
        row_multiple=ROWS,
    )
    return without_positions(experiment, next(batches))
