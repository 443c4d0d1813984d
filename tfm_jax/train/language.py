"""What the loop needs to know of language models, from data to report."""

import collections
import functools
import json
import math

import jax

from tfm_jax.data import language, text_batches
from tfm_jax.data.subwords import TextTokenizer as Tokenizer
from tfm_jax.train import pictures, runtime
from tfm_jax.train.evaluate import apply
from tfm_jax.train.experiment import TASKS, build_model
from tfm_jax.train.log import read_history
from tfm_jax.train.mesh import put_whole, row_multiple
from tfm_jax.train.report import final_params

__all__ = ["Evaluator", "Tokenizer", "batches", "finish", "prepare", "seen", "size"]


def prepare(experiment, tokenizer=None):
    """The data of ``experiment``."""
    sections = experiment.data, experiment.tokenizer
    return language.prepare(*sections, tokenizer=tokenizer)


def batches(experiment, data, **options):
    """Training batches, see ``language.train_batches``."""
    return language.train_batches(experiment.data, data, **options)


def seen(experiment, batch):
    """A batch as the model takes it."""
    return batch


def size(data) -> str:
    """How much there is to train on, in words."""
    return f"{sum(int(rows.weights.sum()) for rows in data.train):,} tokens"


class Evaluator:
    """Scores parameters on the held-out text of one experiment."""

    def __init__(self, experiment, data, mesh):
        self.data, self.mesh, self.cfg = data, mesh, experiment.eval
        self.eval_step = jax.jit(
            functools.partial(
                TASKS[experiment.task].losses.eval_sums,
                functools.partial(apply, build_model(experiment)),
            )
        )

    def during(self, params, *, poll=lambda: None) -> tuple[dict, dict]:
        """Loss on the validation text, and no samples."""
        return self.loss(params, "valid", poll=poll), {}

    def loss(self, params, split, *, poll=lambda: None) -> dict:
        """``nll`` (nats per token), ``perplexity``, ``accuracy``, ``tokens``.

        And ``bits_per_character``, which does not depend on the tokenizer. Every token
        that is asked for counts once; {} if the split is empty.
        """
        rows = getattr(self.data, split)
        if not rows:
            return {}
        totals = collections.Counter()
        for batch in text_batches.eval_text_batches(
            rows,
            batch_tokens=self.cfg.batch_tokens,
            row_multiple=row_multiple(self.mesh),
        ):
            poll()
            sums = self.eval_step(params, put_whole(self.mesh, batch))
            totals.update(jax.device_get(sums))
        tokens = max(float(totals["tokens"]), 1.0)
        nll = float(totals["nll"])
        characters = self.data.report[split]["characters"]
        return {
            "nll": nll / tokens,
            "perplexity": math.exp(min(nll / tokens, 700.0)),
            "bits_per_character": nll / math.log(2) / max(characters, 1),
            "accuracy": float(totals["correct"]) / tokens,
            "tokens": int(tokens),
        }


def finish(run, log) -> dict:
    """Scores both held-out splits and leaves ``results.json`` and ``curve.png``."""
    params = final_params(run.workdir, run.state, run.evaluator.cfg)
    results = {"step": run.step, "memory_bytes": runtime.peak_memory()}
    for split in ("valid", "test"):
        scores = run.evaluator.loss(params, split, poll=run.poll)
        if scores:
            results[split] = scores
            log.write(run.step, f"final_{split}", scores)
            shown = "  ".join(f"{name} {value:.4g}" for name, value in scores.items())
            if jax.process_index() == 0:
                print(f"{split}: {shown}", flush=True)
    if jax.process_index() == 0:
        path = run.workdir / "results.json"
        path.write_text(json.dumps(results, indent=1) + "\n")
        pictures.curve(read_history(run.workdir), run.workdir / "curve.png")
        print(f"see {run.workdir / 'curve.png'}", flush=True)
    return results
