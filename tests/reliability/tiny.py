"""A run that is small and hard to resume, and what it leaves behind.

Accumulation, dropout and a moving average are on; an epoch is 16 steps, evaluations
come every 16, checkpoints every 15, log records every 3. Also a file for ``--config``.
"""

import contextlib
import dataclasses
import functools
import hashlib
import json

import pytest
from ml_collections import ConfigDict

from tfm_jax import mesh
from tfm_jax.config import section
from tfm_jax.data.rows import pairs
from tfm_jax.data.tokenizers import bilingual
from tfm_jax.models import transformer
from tfm_jax.optim import optimizers
from tfm_jax.runs.log import read_history
from tfm_jax.runs.process import preemption
from tfm_jax.runs.process.exits import Preempted
from tfm_jax.runs.storage import arrays, checkpoint, manifest
from tfm_jax.settings.sections import EvalConfig, TrainConfig
from tfm_jax.train import finish, loop, program
from tfm_jax.workloads import evaluator

# what the loop alone reads of the section train
LOOP = dict(log_every_steps=1, max_hours=0.0, stop_patience=0, trackers=())
# numbers of a record that are not the run's
CLOCK = ("seconds", "tokens_per_second", "mfu")


def get_config(**changes):
    """The run; ``changes`` are knobs, ``train__total_steps=20``."""
    c = ConfigDict(dict(seed=0, model_name="transformer", task="translation"))
    sizes = dict(width=16, heads=2, ffn_width=32, encoder_depth=1, decoder_depth=1)
    # few arrays: a checkpoint costs what their number is
    c.model = section(transformer.Config, **sizes, biases="none", dropout=0.1)
    c.data = section(
        pairs.Config,
        **dict(numerals_max=300, numerals_heldout=4, numerals_train=256),
        **dict(batching="fixed", source_length=32, target_length=32),
    )
    c.tokenizer = section(bilingual.Config, kind="character")
    c.optim = section(optimizers.Config, peak_lr=1e-2, warmup_steps=10)
    c.train = section(
        TrainConfig,
        **dict(total_steps=40, batch_tokens=512, accumulate_steps=2),
        **dict(ema_decay=0.9, log_every_steps=3),
    )
    c.eval = section(
        EvalConfig,
        **dict(every_steps=16, sentences=0, samples=1, beam=1, max_length_offset=0),
        batch_tokens=64,  # two batches
    )
    c.checkpoint = section(checkpoint.Config, every_steps=15, metric="nll")
    c.mesh = section(mesh.Config, data=1, cpu_devices=1)
    for knob, value in changes.items():
        part, _, name = knob.partition("__")
        if name:
            c[part][name] = value
        else:
            c[part] = value
    return c


class StopAt(preemption.Preemption):
    """A scheduler that asks after given steps, at the next chance there is."""

    def __init__(self, steps):
        super().__init__()
        self.steps = steps

    def should_stop(self, step):
        self._requested |= step in self.steps
        return super().should_stop(step)


@contextlib.contextmanager
def compiled_once():
    """Runs of which the same is compiled share the functions."""

    def once(function):
        of_one = functools.lru_cache(function)

        def call(experiment, **traced):  # the rates of a population
            compiled = experiment._replace(
                **dict(seed=None, eval=None, checkpoint=None),
                train=dataclasses.replace(experiment.train, **LOOP),
            )
            return (function if traced else of_one)(compiled, **traced)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for module, name in ((program, "build"), (evaluator, "make_eval_step")):
            patch.setattr(module, name, once(getattr(module, name)))
        yield


@contextlib.contextmanager
def quick():
    """Besides, they are not scored at their end, and draw nothing."""
    with compiled_once(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(finish, "finish", lambda run, log: {})
        yield


def run(workdir, config=None, *, stop=(), given=None):
    """Trains in ``workdir`` until done or asked to stop; whether it is done.

    Nothing is drawn: pictures have tests of their own.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "Preemption", lambda: StopAt(stop))
        for name in ("_attention", "_draw"):
            patch.setattr(finish, name, lambda *_: None)
        try:
            config = get_config() if config is None else config
            loop.train(config, workdir, given=given)
        except Preempted:
            return False
        return True


def digests(workdir, without=()):
    """Everything a run leaves, as name -> sha256; equal only if equal bit for bit.

    Args: without: kinds of records that do not count.
    """
    newest = max(workdir.glob("checkpoints/" + "[0-9]" * 6))
    named = arrays.read(newest / "state", manifest.read(newest)["tree"])
    parts = {}
    for name, array in sorted(named.items()):
        root = parts.setdefault(name.partition("/")[0], hashlib.sha256())
        root.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
    found = {name: part.hexdigest() for name, part in parts.items()}
    found["data"] = hashlib.sha256((newest / "data.json").read_bytes()).hexdigest()
    records = [
        {name: value for name, value in record.items() if name not in CLOCK}
        for record in read_history(workdir)
        if record["kind"] not in ("start", *without)  # "start": one a process
    ]
    text = json.dumps(records, sort_keys=True).encode()
    return found | {"records": hashlib.sha256(text).hexdigest()}
