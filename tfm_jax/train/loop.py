"""The training loop, its phases in reading order."""

import contextlib
import functools
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from tfm_jax import mesh as mesh_section
from tfm_jax.config import ConfigError
from tfm_jax.mesh import of_all_rows, put_batch
from tfm_jax.optim import plateau
from tfm_jax.optim.schedules import SCHEDULES
from tfm_jax.runs import named_data, pictures, resume, sources
from tfm_jax.runs.extend import Length
from tfm_jax.runs.log import MetricsLog, Progress, read_history
from tfm_jax.runs.process import environment, peers, runtime
from tfm_jax.runs.process.exits import Diverged, Preempted
from tfm_jax.runs.process.preemption import Preemption
from tfm_jax.runs.storage.checkpoint import Checkpointer
from tfm_jax.runs.trackers import require
from tfm_jax.runs.workdir import Lease, preflight
from tfm_jax.settings import new_runs
from tfm_jax.settings.experiment import resolve
from tfm_jax.terminal import say
from tfm_jax.train import finish, stopping
from tfm_jax.train.assemble import (
    Assembled,
    assemble,
    batches_from,
    headline,
    open_checkpoints,
)
from tfm_jax.train.costs.profile import Profile
from tfm_jax.train.costs.utilisation import Meter
from tfm_jax.train.state import averaged


def train(
    config: Any,
    workdir: str | Path,
    *,
    given: Collection[str] | None = None,
    read_initial: Callable[[str], sources.Source] = sources.read,
    profile: str = "",
) -> dict:
    """Trains what ``config`` says in ``workdir``, from where it left off.

    Args:
        given: dotted knobs that were set besides the configuration, for which it need
            not be changed elsewhere: one ablation is one knob, see ``new_runs``. All
            else of the architecture is that of ``init_from``, if there is one; None:
            the configuration is as it shall be, whatever ``init_from`` has.
        read_initial: reads ``init_from``; by default runs alone, as
            ``interop.read_initial`` folders of transformers too.
        profile: "FROM,STEPS": train steps that are traced, see ``costs.profile``.
    Returns: the scores of the evaluation after the last step.
    Raises: Preempted, Diverged, ConfigError, DataError and what else `exits` lists.
    """
    started = time.monotonic()
    experiment = resolve(config)
    new_runs.check(experiment, workdir, given or ())
    require(experiment.train.trackers)
    traced = Profile(profile, experiment.train.total_steps, Path(workdir))
    workdir = preflight(workdir)
    named_data.remember(experiment)
    with (
        session(experiment.mesh, [workdir]) as (mesh, stop),
        open_checkpoints(experiment, workdir) as checkpoints,
    ):
        peers.require_agreement("settings", experiment.shared())
        stop.limit(experiment.train.max_hours, started)
        held = workdir, mesh, checkpoints, stop
        how = dict(given=given, read_initial=read_initial)
        made = assemble(experiment, *held, **how)
        run = Training(made, *held)
        is_main_process = jax.process_index() == 0
        if is_main_process:
            say(headline(made, mesh))
        total = experiment.train.total_steps
        with (
            run.open_log() as log,
            traced,
            Progress(
                total,
                start=run.step,
                shown=is_main_process,
                counted=experiment.workload.counted,
            ) as progress,
        ):
            run.loop(log, progress, started, traced if is_main_process else None)
            return run.finish(log)


@contextlib.contextmanager
def session(
    cfg: mesh_section.Config, workdirs: Iterable[Path]
) -> Iterator[tuple[jax.sharding.Mesh, Preemption]]:
    """Holds ``workdirs``, listens for signals, makes the mesh: yields (mesh, stop)."""
    runtime.prepare(cfg.cpu_devices, cfg.processes)
    with contextlib.ExitStack() as stack:
        stack.enter_context(peers.watched())
        for workdir in workdirs if jax.process_index() == 0 else ():
            stack.enter_context(Lease(workdir))
        stop = stack.enter_context(Preemption())
        mesh = mesh_section.make_mesh(cfg)
        stack.enter_context(mesh_section.using(cfg, mesh))
        yield mesh, stop


class Training:
    """A run that trains in this process; ``name``, if it trains others too."""

    name = ""

    def __init__(
        self,
        made: Assembled,
        workdir: Path,
        mesh: jax.sharding.Mesh,
        checkpoints: Checkpointer,
        stop: Preemption,
    ) -> None:
        self.workdir, self.mesh = workdir, mesh
        self.checkpoints, self.stop = checkpoints, stop
        self.experiment, self.work = made.experiment, made.experiment.workload
        self.data, self._texts = made.data, made.texts
        self.compiled, self.evaluator = made.compiled, made.evaluator
        self.step = self.saved = made.step
        self.batches, self.state = made.batches, made.state
        self.length = made.length  # what it does if its length has changed
        self._scores = made.scores
        self._tokens, self._flops = [], []  # of each step since the last record
        self.meter = Meter(self.experiment, mesh)
        self.stopped = ""  # why it ends before its last step
        cfg, optim = self.experiment.train, self.experiment.optim
        self._anneals = SCHEDULES[optim.schedule].watches
        for knob, value, other in (
            ("train.stop_patience", cfg.stop_patience, "0"),
            ("optim.schedule", optim.schedule if self._anneals else "", "another"),
        ):
            if value and not made.data.valid:
                raise ConfigError(
                    f"{knob}={value!r}: there is no validation data to evaluate; "
                    f"choose {other}, or name some"
                )
        self._observe = jax.jit(
            functools.partial(plateau.observe, optim),
            out_shardings=made.compiled.placed.plateau,
        )

    def open_log(self) -> MetricsLog:
        """Its record, from where it goes on."""
        return MetricsLog(
            self.workdir,
            step=self.step,
            extends=bool(self.length),
            writes=jax.process_index() == 0,
            trackers=self.experiment.train.trackers,
            knobs=self.experiment.knobs(),
        )

    def loop(
        self,
        log: MetricsLog,
        progress: Progress,
        started: float,
        profile: Profile | None = None,
    ) -> None:
        """Steps, evaluations and checkpoints until ``total_steps`` or an early stop."""
        self.begin(log, progress, started)
        profile = profile or Profile("", 0, self.workdir)
        profile.begin(self.step)
        while not self.at_end:
            step = self.step + 1
            profile.before(step)
            with jax.profiler.StepTraceAnnotation("train", step_num=step):
                metrics = self.update()
            profile.after(step, metrics)
            self.account(metrics)

    @property
    def at_end(self) -> bool:
        """Whether all steps were made, or no more are worth it."""
        return self.step >= self.experiment.train.total_steps or bool(self.stopped)

    def begin(self, log: MetricsLog, progress: Progress, started: float) -> None:
        """Opens the books; an evaluation that was interrupted comes first."""
        self.log, self.progress, self._started = log, progress, started
        self._newest, self._untimed, self._since = None, 0, None
        self._tokens, self._flops = [], []
        if self.length:
            self._record(self.length)
        if self._due(self.experiment.eval.every_steps):
            if not self._evaluated():
                self._evaluate()  # an unbroken run would have it
            self._anneal()
        self._look_back()

    def update(self) -> dict:
        """One train step on the next batch; its metrics, perhaps still under way."""
        batch = put_batch(self.mesh, self.next_batch(), leading=1)
        self.state, metrics = self.compiled.train_step(self.state, batch)
        return metrics

    def next_batch(self) -> Any:
        """On the host, [A, B, ...]: this process's share of each micro-batch."""
        batch = self._shape(next(self.batches))
        self._tokens.append(self.work.tokens(batch))
        self._flops.append(self.meter.flops(batch))
        return batch

    def account(self, metrics: dict) -> None:
        """What follows a train step: log, evaluation, checkpoint, as they are due."""
        cfg, before, self._newest = self.experiment.train, self._newest, metrics
        self.step += 1
        jax.block_until_ready(before)  # at most two steps are in flight
        if self._since is None:
            jax.block_until_ready(metrics)
            seconds = time.monotonic() - self._started
            self.progress.first_step(seconds)
            devices = f"{self.mesh.size} {self.mesh.devices.flat[0].device_kind}"
            where = environment.describe() | {"devices": devices}
            begun = {"seconds": seconds, "environment": where}
            self.log.write(self.step, "start", begun)
            # the step that was compiled says nothing of the rate
            self._untimed, self._since = 1, time.monotonic()
        if self._due(cfg.log_every_steps) or self.at_end:
            self._log(jax.device_get(metrics))
        if self.stop.should_stop(self.step):
            self._save()
            raise Preempted(f"stopped {self.stop.why}; step {self.step} is saved")
        if self._due(self.experiment.eval.every_steps):
            self._evaluate()
            self._anneal()
            self._look_back()
            self._untimed, self._since = len(self._tokens), time.monotonic()
        if self._due(self.experiment.checkpoint.every_steps):
            self._save()

    def finish(self, log: MetricsLog) -> dict:
        """Saves the last state, scores the held-out sets and leaves the results."""
        if self.saved < self.step:
            self._save()
        self.checkpoints.wait()
        return finish.finish(self, log)

    def _log(self, newest):
        """Writes the newest metrics, and how fast the steps were that were timed."""
        tokens = of_all_rows(self.mesh, sum(self._tokens[self._untimed :]))
        seconds = max(time.monotonic() - self._since, 1e-9)
        speed = {"tokens_per_second": tokens / seconds} if tokens else {}
        flops = of_all_rows(self.mesh, sum(self._flops[self._untimed :]))
        mfu = {"mfu": flops / seconds / self.meter.peak} if flops else {}
        self._tokens, self._flops = [], []
        self._untimed, self._since = 0, time.monotonic()
        self.log.write(self.step, "train", newest | speed | mfu)
        self.progress.update(self.step, loss=float(newest["loss"]), **speed)
        streak = int(newest["streak"])  # never shrinks beyond the limit
        if streak >= self.experiment.train.skip_limit:
            first = self.step - streak
            made = self.experiment, self.data, self.mesh, first
            rows = self.batches.get_state()["batch_rows"]
            again = batches_from(*made, whole=True, batch_rows=rows)
            batch = self._shape(next(again))
            before = self.state._replace(
                step=np.int32(first),
                skipped=self.state.skipped - streak,
                streak=np.int32(0),
            )
            dump = self.workdir, self.experiment, first, before, batch
            where = resume.dump_diverged(*dump)
            raise Diverged(
                f"{streak} updates in a row were not finite, the first at step "
                f"{first + 1}; --mode=replay shows it again, from {where}"
            )

    def _evaluate(self) -> None:
        scores, samples = self.evaluator.during(averaged(self.state), poll=self.poll)
        self._scores = {k: v for k, v in scores.items() if not isinstance(v, str)}
        if scores:  # there is held-out data
            self.log.write(self.step, "valid", scores)
            self.progress.evaluation(self.step, scores, self.name)
        if isinstance(samples, np.ndarray):
            path = Path("samples", f"{self.step:06}.png")
            if jax.process_index() == 0:
                pictures.images(samples, self.workdir / path)
            self.log.write(self.step, "pictures", {"samples": str(path)})
        elif samples:
            self.log.write(self.step, "samples", samples)

    def _evaluated(self) -> bool:
        return _agreed(self.step in stopping.evaluations(self.workdir))

    def _anneal(self) -> None:
        """Cuts the rate if the schedule does so where the validation loss stalls."""
        if not self._anneals:
            return
        name, state = self.work.score_of("loss"), self.state
        scores = stopping.evaluations(self.workdir).get(self.step, {})
        loss = _agreed(np.float32(scores.get(name, np.nan)))
        after = self._observe(state.plateau, self.step, loss)
        if after.factor < state.plateau.factor and jax.process_index() == 0:
            by = self.experiment.optim.cut_factor
            where = f"{self.name} step {self.step}".strip()
            say(f"{where}: {name} has stalled, the learning rate is cut to {by} of it")
        self.state = state._replace(plateau=after)

    def _look_back(self) -> None:
        """Stops the run early if its evaluations get no better."""
        cfg = self.experiment.train
        if not cfg.stop_patience or self.step >= cfg.total_steps:
            return
        why = stopping.why(self.experiment, stopping.evaluations(self.workdir))
        if _agreed(bool(why)):
            self.stopped = f"stopped early at step {self.step}: {why}"
            if jax.process_index() == 0:
                say(self.stopped)

    def _record(self, length: Length) -> None:
        """Says, and writes once, what other ``total_steps`` than before do."""
        if self._anneals:
            length = length.times(float(self.state.plateau.factor))
        if jax.process_index() == 0:
            say(f"{self.name} {length}".strip())
        there = {(r["step"], r["kind"]) for r in read_history(self.workdir)}
        if (self.step, length.kind) not in there:
            self.log.write(self.step, length.kind, length._asdict())

    def poll(self) -> None:
        """Between two batches of an evaluation: stop now rather than after it."""
        if self.stop.requested:
            if self.saved < self.step:
                self._save()
            raise Preempted(f"stopped as asked; step {self.step} is saved")

    def _save(self) -> None:
        extras = self._texts | {"data.json": self.batches.get_state()}
        self.checkpoints.save(
            self.step,
            self.state,
            extras=extras,
            metrics=self._scores,  # of the newest evaluation
            wait=self.stop.requested,
        )
        self.saved = self.step

    def _shape(self, batch):
        """[B, ...] -> [A, B / A, ...], one leading entry a micro-batch."""
        count = self.experiment.train.accumulate_steps
        return jax.tree.map(lambda x: x.reshape(count, -1, *x.shape[1:]), batch)

    def _due(self, every: int) -> bool:
        return self.step > 0 and self.step % every == 0


def _agreed(answer: Any) -> Any:
    """What the first process says, which has the record."""
    return multihost_utils.broadcast_one_to_all(np.asarray(answer)).item()
