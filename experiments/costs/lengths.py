"""What length costs an encoder-decoder, and how far its gradients reach.

Source: Vaswani et al. 2017, arXiv:1706.03762, table 1: operations a layer, sequential
operations, and the longest path between two positions.
"""

import functools
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from experiments.costs import reach, stopwatch
from experiments.costs.curve import Curve, log_slope
from tfm_jax import api
from tfm_jax.api import Experiment

DOUBLINGS = 6  # from the shortest length to the longest, which the data's section says
SHORTEST = 8
ROUNDS = 3  # of the stopwatch
QUANTITIES = {
    "flops": "operations",
    "sequential": "sequential products",
    "seconds": "seconds",
    "bytes": "bytes",
}
WORK = {  # what is measured at every length -> its name and quantities
    "encode": ("encoder", ("flops", "sequential", "seconds", "bytes")),
    "train": ("training step", ("seconds", "bytes")),
    "token": ("decoded token", ("seconds", "bytes")),
}
COSTS = {
    f"{work}_{quantity}": Curve(
        of, "length in tokens", QUANTITIES[quantity], f"{work}_{quantity}_slope"
    )
    for work, (of, quantities) in WORK.items()
    for quantity in quantities
}
CURVES = COSTS | reach.CURVES
SCORES = (*(curve.slope for curve in COSTS.values()), *reach.SCORES)


class Parts(NamedTuple):
    """A model and what it is measured on.

    Attributes: rows: sentences at a time; the same at all lengths, as the complexities
        of the source are those of one sequence. tokens: that are decoded.
    """

    experiment: Experiment
    model: nn.Module
    params: Any
    batch: Any
    rows: int
    tokens: int


def lengths(experiment: Experiment) -> list[int]:
    """Each twice the one before; the last is ``data.target_length``."""
    longest = experiment.data.target_length
    doubled = (longest >> n for n in range(DOUBLINGS, -1, -1))
    return [n for n in doubled if n >= min(SHORTEST, longest)]


def measure(experiment: Experiment) -> dict[str, Any]:
    """Costs against length, gradients against distance.

    For each length n, of source and target alike: ``encode``, the encoder's layers, of
    which the source speaks; ``train``, loss and gradients of a step (the optimiser's
    update knows no length); ``token``, one decoded token behind n others, keys and
    values kept. ``flops`` and ``sequential``, products that wait for each other, are
    counted, ``bytes`` are the temporary ones that the compiled program asks for, so
    that the three are the same in every run; ``seconds`` are medians of rounds.

    Returns: sections of results.json: scores (slopes of log cost on log n over the
        largest lengths, and those of ``reach``), curves, parameters and conditions.
    """
    before = os.getloadavg()[0]
    parts = _parts(experiment)
    curves: dict[str, list] = {name: [] for name in COSTS}
    programs: dict[tuple[str, int], Callable] = {}
    for n in lengths(experiment):
        api.say(f"compiles programs for {n} tokens")
        for work, begin in BEGIN.items():
            function, arguments = begin(parts, n)
            program = jax.jit(function).lower(*arguments).compile()
            counts = {"bytes": _memory(program)}
            if work == "encode":
                counts["flops"] = api.count_flops(function, *arguments)
                counts["sequential"] = api.longest_chain(function, *arguments)
            for quantity, count in counts.items():
                curves[f"{work}_{quantity}"].append([n, count])
            programs[work, n] = functools.partial(program, *arguments)
    rng = np.random.default_rng(experiment.seed)
    for (work, n), seconds in stopwatch.medians(programs, ROUNDS, rng).items():
        each = seconds / parts.tokens if work == "token" else seconds
        curves[f"{work}_seconds"].append([n, each])
    slopes = {COSTS[name].slope: log_slope(each) for name, each in curves.items()}
    scores, gradients = reach.measure(
        parts.experiment, parts.model, parts.params, parts.batch
    )
    return {
        "probe": slopes | scores,
        "curves": curves | gradients,
        "parameters": sum(x.size for x in jax.tree.leaves(parts.params)),
        "conditions": {
            "cores": _cores(),
            "device": jax.devices()[0].device_kind,
            "load before": before,
            "load after": os.getloadavg()[0],
            "rows": parts.rows,
        },
    }


def _cores():
    """Those that the process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _memory(program):
    """Bytes, one at least, of what it keeps between arguments and results."""
    if (analysis := program.memory_analysis()) is None:
        raise api.InfrastructureError(
            "this device does not say how much memory a program takes"
        )
    return max(analysis.temp_size_in_bytes, 1)


def _parts(experiment):
    longest = experiment.data.target_length
    rows = max(1, experiment.train.batch_tokens // longest)
    experiment, batch, _ = api.start(experiment)
    model = experiment.build_model()
    params = api.initial_params(experiment, model)
    shortest = lengths(experiment)[0]
    return Parts(experiment, model, params, batch, rows, shortest)


def _encode(parts, n):
    tokens = reach.tokens(parts.experiment, parts.rows, n)

    def encode(params, source):
        return parts.model.apply(
            {"params": params},
            source,
            jnp.ones_like(source),
            train=False,
            method="encode",
        )

    return encode, (parts.params, tokens)


def _train(parts, n):
    tokens = reach.tokens(parts.experiment, parts.rows, n)

    def loss(params, batch):
        return api.mean_loss(parts.experiment, parts.model, params, batch)

    return jax.value_and_grad(loss), (parts.params, reach.pairs(parts.batch, tokens))


def _token(parts, n):
    encode, (params, source) = _encode(parts, n)

    def start(params, source):
        call = functools.partial(parts.model.apply, {"params": params})
        memory, ones = encode(params, source), jnp.ones_like(source)
        return call(memory, ones, width=1, max_length=n, method="init_cache")

    def decode(params, first, cache):
        def step(carry, _):
            logits, cache = parts.model.apply({"params": params}, *carry, method="step")
            best = jnp.argmax(logits, -1).astype(first.dtype)
            return (best, cache), best

        return jax.lax.scan(step, (first, cache), length=parts.tokens)[1]

    shapes = jax.eval_shape(start, params, source)
    cache = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    return decode, (params, source[:, :1], cache)


BEGIN = {"encode": _encode, "train": _train, "token": _token}
