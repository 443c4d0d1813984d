"""The training loop, its phases in reading order."""

import contextlib
import time
from pathlib import Path

import jax
import numpy as np
from flax import linen as nn

from tfm_jax.config import to_json
from tfm_jax.data import cache, pipeline
from tfm_jax.data.tokenizers import Tokenizer
from tfm_jax.train import evaluate, program, report, resume, runtime
from tfm_jax.train.checkpoint import Checkpointer
from tfm_jax.train.evaluate import Evaluator
from tfm_jax.train.exits import Diverged, Preempted
from tfm_jax.train.experiment import Experiment, complete, resolve
from tfm_jax.train.log import MetricsLog, Progress, read_history
from tfm_jax.train.mesh import RULES, make_mesh, put_batch, row_multiple
from tfm_jax.train.preemption import Preemption
from tfm_jax.train.state import averaged
from tfm_jax.train.workdir import Lease, preflight, replace

ROWS = 8  # a batch has a multiple of this: the same batches on 1, 2, 4 and 8 devices


def train(config, workdir) -> dict:
    """Trains what ``config`` says in ``workdir``, from where it left off.

    Returns: the scores of the evaluation after the last step.
    Raises: Preempted, Diverged, ConfigError, DataError and what else `exits` lists.
    """
    started = time.monotonic()
    experiment = resolve(config)
    workdir = preflight(workdir)
    runtime.prepare(experiment.mesh.cpu_devices)
    with contextlib.ExitStack() as stack:
        stack.enter_context(Lease(workdir))
        stop = stack.enter_context(Preemption())
        mesh = make_mesh(experiment.mesh)
        stack.enter_context(jax.set_mesh(mesh))
        stack.enter_context(nn.logical_axis_rules(RULES))
        checkpoints = stack.enter_context(
            Checkpointer(workdir / "checkpoints", experiment.checkpoint)
        )
        run = Training(experiment, workdir, mesh, checkpoints, stop)
        print(run.headline(), flush=True)
        with (
            MetricsLog(workdir, step=run.step) as log,
            Progress(experiment.train.total_steps, start=run.step) as progress,
        ):
            run.loop(log, progress, started)
            return run.finish(log)


class Training:
    """What one process holds while it trains."""

    def __init__(self, experiment: Experiment, workdir: Path, mesh, checkpoints, stop):
        self.workdir, self.mesh = workdir, mesh
        self.checkpoints, self.stop = checkpoints, stop
        resumed = checkpoints.latest_good()
        extras = {} if resumed is None else checkpoints.extras(resumed)
        self.step = self.saved = resumed or 0

        # data; a resumed run keeps the tokenizer it was trained with
        tokenizer = None
        if extras:
            tokenizer = Tokenizer(extras["tokenizer.json"])
            experiment = complete(experiment, tokenizer)
            resume.check_continues(extras["config.json"], experiment.as_dict())
        self.data = cache.prepared(
            experiment.data,
            experiment.tokenizer,
            runtime.cache("data"),
            tokenizer=tokenizer,
        )
        self.experiment = experiment = complete(experiment, self.data.tokenizer)
        self.batches = self._batches_from(0)
        if extras:
            resume.go_on(self.batches, extras["data.json"])
        self._describe()
        if stop.requested:
            raise Preempted("asked to stop before the first step; nothing to save")

        # state, sharded as it is made, and the two compiled functions
        functions = program.build(experiment)
        abstract = functions.abstract(mesh)
        placed = jax.tree.map(lambda x: x.sharding, abstract)
        if resumed is None:
            init = jax.jit(functions.init, out_shardings=placed)
            self.state = init(experiment.seed)
        else:
            self.state = checkpoints.restore(resumed, abstract)
        self.train_step = jax.jit(
            functions.train_step, donate_argnums=0, out_shardings=(placed, None)
        )
        self.evaluator = Evaluator(experiment, self.data, mesh)

    def headline(self) -> str:
        """One line that says what is about to run, and on what."""
        count = sum(x.size for x in jax.tree.leaves(self.state.params))
        shape = ", ".join(f"{name} {size}" for name, size in self.mesh.shape.items())
        begin = f"from step {self.step}" if self.step else "from scratch"
        return (
            f"{self.experiment.model_name} with {count / 1e6:.2f} M parameters on "
            f"{len(self.data.train.kept):,} pairs, {self.mesh.size} "
            f"{jax.default_backend()} device(s) as {shape}; {begin}"
        )

    def loop(self, log, progress, started: float) -> None:
        """Steps, evaluations and checkpoints until ``total_steps``."""
        cfg, window, untimed, since = self.experiment.train, [], 0, None
        if self._due(self.experiment.eval.every_steps) and not self._evaluated():
            self._evaluate(log)  # interrupted there; an unbroken run would have it
        while self.step < cfg.total_steps:
            metrics = self.update()
            window.append(metrics)
            jax.block_until_ready(window[-2:][0])  # at most two steps are in flight
            if since is None:
                jax.block_until_ready(metrics)
                seconds, since = time.monotonic() - started, time.monotonic()
                untimed = 1  # the step that was compiled says nothing about the rate
                print(f"first step done {seconds:.1f} s after the start", flush=True)
                log.write(self.step, "start", {"seconds": seconds})
            if self._due(cfg.log_every_steps) or self.step == cfg.total_steps:
                window = jax.device_get(window)
                tokens = sum(float(m["tokens"]) for m in window[untimed:])
                rate = tokens / max(time.monotonic() - since, 1e-9)
                self._log(log, progress, window[-1], rate)
                window, untimed, since = [], 0, time.monotonic()
            if self.stop.should_stop(self.step):
                self._save({})
                raise Preempted(f"stopped as asked; step {self.step} is saved")
            scores = {}
            if self._due(self.experiment.eval.every_steps):
                scores = self._evaluate(log)
                untimed, since = len(window), time.monotonic()
            if self._due(self.experiment.checkpoint.every_steps):
                self._save(scores)

    def update(self) -> dict:
        """One train step on the next batch; its metrics, perhaps still under way."""
        batch = self._put(next(self.batches))
        self.state, metrics = self.train_step(self.state, batch)
        self.step += 1
        return metrics

    def finish(self, log) -> dict:
        """Saves the last state, scores the held-out sets and leaves the results."""
        if self.saved < self.step:
            self._save({})
        self.checkpoints.wait()
        return report.finish(self, log)

    def _log(self, log, progress, newest, rate):
        """Writes the newest metrics, and target tokens per second since the last."""
        log.write(self.step, "train", newest | {"tokens_per_second": rate})
        progress.update(self.step, loss=float(newest["loss"]), tokens_per_second=rate)
        streak = int(newest["streak"])  # never shrinks beyond the limit
        if streak >= self.experiment.train.skip_limit:
            first = self.step - streak
            batch = self._shape(next(self._batches_from(first)))
            before = self.state._replace(
                step=np.int32(first),
                skipped=self.state.skipped - streak,
                streak=np.int32(0),
            )
            where = resume.dump_diverged(self.workdir, self.experiment, before, batch)
            raise Diverged(
                f"{streak} updates in a row were not finite, the first at step "
                f"{first + 1}; --mode=replay shows it again, from {where}"
            )

    def _evaluate(self, log) -> dict:
        scores, samples = self.evaluator.during(averaged(self.state), poll=self.poll)
        log.write(self.step, "valid", scores)
        if samples:
            log.write(self.step, "samples", samples)
        return scores

    def _evaluated(self) -> bool:
        history = read_history(self.workdir)
        return any(r["step"] == self.step and r["kind"] == "valid" for r in history)

    def poll(self):
        """Between two batches of an evaluation: stop now rather than after it."""
        if self.stop.requested:
            if self.saved < self.step:
                self._save({})
            raise Preempted(f"stopped as asked; step {self.step} is saved")

    def _save(self, scores: dict) -> None:
        extras = self._description() | {"data.json": self.batches.get_state()}
        numbers = {k: v for k, v in scores.items() if not isinstance(v, str)}
        self.checkpoints.save(
            self.step,
            self.state,
            extras=extras,
            metrics=numbers,
            wait=self.stop.requested,
        )
        self.saved = self.step

    def _describe(self) -> None:
        """Leaves in the workdir what the run is, for people and for ``load_run``."""
        if jax.process_index() == 0:
            for name, text in self._description().items():
                replace(self.workdir / name, text)

    def _description(self) -> dict[str, str]:
        return {
            "config.json": to_json(self.experiment.as_dict()),
            "tokenizer.json": self.data.tokenizer.to_json(),
            "data_report.json": to_json(self.data.report),
        }

    def _batches_from(self, start: int):
        cfg = self.experiment.train
        rows = int(np.lcm(ROWS, row_multiple(self.mesh))) * cfg.accumulate_steps
        return pipeline.train_batches(
            self.experiment.data,
            self.data.train,
            batch_tokens=cfg.batch_tokens,
            total_batches=cfg.total_steps,
            seed=self.experiment.seed,
            start=start,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
            row_multiple=rows,
        )

    def _shape(self, batch):
        """[B, ...] -> [A, B / A, ...], one leading entry a micro-batch."""
        batch = evaluate.without_positions(self.experiment, batch)
        count = self.experiment.train.accumulate_steps
        return jax.tree.map(lambda x: x.reshape(count, -1, *x.shape[1:]), batch)

    def _put(self, batch):
        return put_batch(self.mesh, self._shape(batch), leading=1)

    def _due(self, every: int) -> bool:
        return self.step > 0 and self.step % every == 0
