"""What is decoded at a time, and what one step of it takes."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
from flax import linen as nn

from tfm_jax.data.batch import NoisyBatch
from tfm_jax.decode.rows import power_of_two
from tfm_jax.settings.experiment import Experiment
from tfm_jax.train.aot.shapes import example
from tfm_jax.workloads import causal_lm, denoise, visual_lm


class Decoding(NamedTuple):
    """One step of decoding, of any model.

    Attributes:
        inputs: (model, parameters) -> shapes of what ``model.apply`` takes besides.
        options: of ``model.apply``. donated: arguments that the step overwrites.
        size: what it works on, in words.
    """

    inputs: Callable[[nn.Module, Any], tuple]
    options: Mapping[str, Any]
    donated: tuple[int, ...]
    size: str


def begin(experiment: Experiment, devices: int) -> Decoding | None:
    """The step that decodes what the run learns; None: it learns nothing of that kind.

    Args: devices: that the sentences of a batch are divided among.
    """
    kind = experiment.workload.evaluator
    if issubclass(kind, denoise.DenoiseEvaluator):
        return _drawing(experiment)
    if issubclass(kind, causal_lm.CausalEvaluator):
        length, longest = experiment.data.length, experiment.model.longest
        prompt = min(causal_lm.PROMPT, max(length // 2, 1))
        most = causal_lm.SAMPLE
        room = min(most, longest - prompt + 1) if longest else most
        return _continuing(experiment, experiment.eval.samples, prompt, room)
    if issubclass(kind, visual_lm.WritingEvaluator):
        if "generation" not in getattr(experiment.data, "objectives", ("generation",)):
            return None
        length = experiment.data.length
        return _continuing(
            experiment, visual_lm.AT_ONCE, length - length // 2, length // 2
        )
    if "init_cache" in experiment.workload.samples_by:
        return _translating(experiment, devices)
    return None


def _translating(experiment, devices):
    """A token of each hypothesis of the sentences of one device."""
    cfg, longest = experiment.eval, experiment.model.longest or math.inf
    count = -(-cfg.batch_sentences // devices)
    length = min(experiment.data.source_length, longest)
    room = min(length + cfg.max_length_offset, longest)

    def inputs(model, params):
        def cache(params, source, segments):
            variables = {"params": params}
            taken = dict(train=False, method="encode")
            memory = model.apply(variables, source, segments, **taken)
            size = dict(width=cfg.beam, max_length=room, method="init_cache")
            return model.apply(variables, memory, segments, **size)

        source = _ints(count, length)
        return _ints(count, cfg.beam), jax.eval_shape(cache, params, source, source)

    size = f"{count} x {cfg.beam} hypotheses of {room} tokens"
    return Decoding(inputs, {"method": "step"}, (2,), size)


def _continuing(experiment, count, prompt, room):
    """A token of each of so many continuations of prompts, behind the last of them."""
    count = power_of_two(max(count, 1))
    size = dict(width=1, max_length=prompt - 1 + room, method="prefill")

    def inputs(model, params):
        whole, beside = example(experiment, count, train=False), {}
        if hasattr(whole, "images"):
            names = ("images", "image_counts", "image_index")
            beside = {name: getattr(whole, name) for name in names}

        def cache(params, tokens, lengths, beside):
            return model.apply({"params": params}, tokens, lengths, **beside, **size)

        prompts = _ints(count, prompt - 1), _ints(count)
        return _ints(count, 1), jax.eval_shape(cache, params, *prompts, beside)

    said = f"{count} continuations, to {prompt + room - 1} tokens"
    return Decoding(inputs, {"method": "step"}, (2,), said)


def _drawing(experiment):
    """A step of the sampler: what the model sees in images with noise."""
    model, sampler = experiment.model, experiment.data.sampler
    count = min(max(experiment.eval.samples, 1), denoise.AT_ONCE)
    rows = count * (1 if sampler.guidance == 1.0 else 2)
    shape = (rows, *model.image, model.channels)

    def inputs(*_):
        images, times = (jax.ShapeDtypeStruct(s, "float32") for s in (shape, (rows,)))
        return (NoisyBatch(images, times, _ints(rows)),)

    size = f"{count} images, one of {sampler.steps} steps"
    return Decoding(inputs, {"train": False}, (), size)


def _ints(*shape):
    return jax.ShapeDtypeStruct(shape, "int32")
