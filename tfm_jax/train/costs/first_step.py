"""What a train step costs, known before it runs: parameters, operations, tokens."""

from typing import Any, NamedTuple

import jax

from tfm_jax.data.batches import train_batches
from tfm_jax.settings.experiment import Experiment
from tfm_jax.train import program
from tfm_jax.train.costs import flops


class Start(NamedTuple):
    """A run before its first step.

    Attributes:
        experiment: with the vocabularies of its tokenizer filled in.
        batch: what the first step sees, not yet in micro-batches.
        tokens: of the batch, padding left out; of a translation those of its targets.
    """

    experiment: Experiment
    batch: Any
    tokens: int


def start(experiment: Experiment, data: Any) -> Start:
    """The first batch of a run on its prepared data."""
    experiment = experiment.complete(data.tokenizer)
    batches = train_batches(
        experiment.data,
        data,
        batch_tokens=experiment.train.batch_tokens,
        total_batches=1,
        seed=experiment.seed,
        row_multiple=experiment.train.row_multiple,
    )
    batch = next(batches)
    return Start(experiment, batch, experiment.workload.tokens(batch))


def measure(begun: Start) -> dict[str, Any]:
    """``parameters``, and of one train step ``flops_per_step`` and ``tokens_per_step``.

    FLOPs are those of ``flops.count``; there are none where they cannot be counted,
    and ``uncounted`` says why. Tokens are those of the text, or of the targets of a
    translation, padding left out, or images. Nothing is compiled or run.
    """
    functions = program.build(begun.experiment)
    state = functions.shapes()
    batch = jax.tree.map(lambda x: x[None], begun.batch)  # one micro-batch
    counted: dict[str, Any]
    try:
        operations = flops.count(functions.train_step, state, batch)
        counted = {"flops_per_step": float(operations.total())}
    except flops.Uncountable as error:
        counted = {"uncounted": str(error)}
    return counted | {
        "parameters": sum(x.size for x in jax.tree.leaves(state.params)),
        "tokens_per_step": begun.tokens,
    }
