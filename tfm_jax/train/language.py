"""What the loop needs to know of language models, from data to report."""

import jax
import numpy as np

from tfm_jax.config import ConfigError
from tfm_jax.data.batches import eval_batches, train_batches
from tfm_jax.data.cache import prepared
from tfm_jax.data.tokenizers.subwords import TextTokenizer as Tokenizer
from tfm_jax.mesh import put_whole, row_multiple
from tfm_jax.runs import pictures, runtime
from tfm_jax.runs.log import read_history, spoken
from tfm_jax.runs.workdir import replace
from tfm_jax.settings import variants
from tfm_jax.settings.experiment import TASKS, alone
from tfm_jax.terminal import say
from tfm_jax.train import predictions
from tfm_jax.train.evaluate import make_eval_step
from tfm_jax.train.report import final_params, left_out

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
    """The data of ``experiment``. Raises: ConfigError if it has other labels."""
    sections = experiment.data, experiment.tokenizer
    kind, directory = TASKS[experiment.task].data, runtime.cache("data")
    data = prepared(kind, *sections, directory, tokenizer=tokenizer)
    names = data.report["train"].get("labels")
    model = getattr(experiment, "model", None)  # None: asked for the data alone
    if names is not None and model and model.labels != (len(names) or 1):
        raise ConfigError(
            f"model.labels={model.labels}, but the training data has "
            f"{len(names) or 'numbers, which need 1'}: {', '.join(names[:20])}"
        )
    return data


def batches(experiment, data, **options):
    """Training batches, see ``batches.train_batches``."""
    return train_batches(experiment.data, data, **options)


def to_model_inputs(experiment, batch):
    """A batch as the model takes it."""
    return batch


def tokens(batch) -> int:
    """Tokens of a batch, padding left out."""
    return int((batch.segments > 0).sum())


def size(data) -> str:
    """How much there is to train on, in words."""
    tokens = sum(int((rows.segments > 0).sum()) for rows in data.train)
    rows = sum(len(rows.tokens) for rows in data.train)
    return f"{tokens:,} tokens in {rows:,} rows{left_out(data.report)}"


class Evaluator:
    """Scores parameters on the held-out text of one experiment."""

    def __init__(self, experiment, data, mesh):
        self.experiment, self.data, self.mesh = experiment, data, mesh
        self.cfg = experiment.eval
        self.losses = TASKS[experiment.task].losses
        self.eval_step = make_eval_step(experiment)
        found = variants.read(experiment.eval.variants, experiment.data)
        others = {name: alone(experiment, section) for name, section in found.items()}
        self.variants = {
            name: Evaluator(other, prepare(other, data.tokenizer), mesh)
            for name, other in others.items()
        }

    def during(self, params, *, poll=lambda: None) -> tuple[dict, dict]:
        """Loss on the validation text, and samples if it is a language model."""
        scores = self.loss(params, "valid", poll=poll)
        return scores, predictions.samples(*self._asked(params, "valid"))

    def final(self, params, split, *, poll=lambda: None) -> dict:
        """``loss``, and what ``predictions.scores`` adds to it."""
        scores = self.loss(params, split, poll=poll)
        return scores | predictions.scores(*self._asked(params, split))

    def _asked(self, params, split):
        return self.experiment, params, self.data, split

    def loss(self, params, split, *, poll=lambda: None) -> dict:
        """What the task's ``scores`` says; {} if the split is empty.

        Everything that is asked for counts once, whatever the batches are.
        """
        if not getattr(self.data, split):
            return {}
        totals = None
        for batch in eval_batches(
            self.data,
            split,
            batch_tokens=self.cfg.batch_tokens,
            row_multiple=row_multiple(self.mesh),
        ):
            poll()
            sums = self.eval_step(params, put_whole(self.mesh, batch))
            sums = jax.device_get(sums)
            totals = sums if totals is None else jax.tree.map(np.add, totals, sums)
        return self.losses.scores(totals, self.data.report[split])


def finish(run, log) -> dict:
    """Scores the held-out text, and leaves ``results.json`` and ``curve.png``."""
    params = final_params(run.workdir, run.state, run.evaluator.cfg)
    results = {"step": run.step, "memory_bytes": runtime.peak_memory()}
    scored = {split: (run.evaluator, split) for split in ("valid", "test")}
    for name, evaluator in run.evaluator.variants.items():
        scored[name] = evaluator, "valid"
    for name, (evaluator, split) in scored.items():
        scores = evaluator.final(params, split, poll=run.poll)
        if scores:
            results[name] = scores
            log.write(run.step, f"final_{name}", scores)
            if jax.process_index() == 0:
                say(f"{name}: {spoken(scores)}")
    if jax.process_index() == 0:
        replace(run.workdir / "results.json", results)
        pictures.curve(read_history(run.workdir), run.workdir / "curve.png")
        say(f"see {run.workdir / 'curve.png'}")
    return results
