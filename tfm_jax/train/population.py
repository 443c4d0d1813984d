"""Several runs that differ in seed and rate, trained together by one program.

Each has a workdir, a log, checkpoints and results of its own, as if it had run alone;
its numbers differ from those of a run alone by the rounding of batched products.
Frozen parameters that are the same in all of them are in memory once.
"""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from tfm_jax.config import ConfigError
from tfm_jax.mesh import put_batch
from tfm_jax.optim import layerwise
from tfm_jax.runs import named_data, sources
from tfm_jax.runs.extend import finished
from tfm_jax.runs.log import Progress
from tfm_jax.runs.process.exits import Diverged, Preempted
from tfm_jax.runs.trackers import require
from tfm_jax.runs.workdir import preflight
from tfm_jax.settings import new_runs
from tfm_jax.settings.experiment import Experiment, resolve
from tfm_jax.terminal import say
from tfm_jax.train import loop, program
from tfm_jax.train.assemble import assemble, headline, open_checkpoints

MAY_DIFFER = ("seed", "optim.peak_lr")


def train(
    configs: Sequence,
    workdirs: Sequence,
    *,
    given: Collection[str] | None = None,
    read_initial: Callable = sources.read,
) -> None:
    """Trains one run for each config in its workdir, from where each left off.

    Every member draws its own batches, whose shapes must be equal, so that
    ``data.batching`` cannot be "bucket". One that diverges leaves the others alone; one
    that has finished before is left as it is.

    Args: given, read_initial: see ``loop.train``.
    Raises: ConfigError if the runs cannot share a program. Preempted if asked to stop;
        all are saved. Diverged, naming the workdirs, once all others have finished.
    """
    started = time.monotonic()
    experiments = [resolve(config) for config in configs]
    check_alike(experiments)
    for experiment, workdir in zip(experiments, workdirs, strict=True):
        new_runs.check(experiment, workdir, given or ())
    named_data.remember(experiments[0])
    require(experiments[0].train.trackers)
    todo = [
        (experiment, preflight(workdir))
        for experiment, workdir in zip(experiments, workdirs, strict=True)
        if not finished(workdir, experiment.train.total_steps)
    ]
    if not todo:
        say("every member has finished before")
        return
    with contextlib.ExitStack() as stack:
        folders = [workdir for _, workdir in todo]
        mesh, stop = stack.enter_context(loop.session(experiments[0].mesh, folders))
        stop.limit(experiments[0].train.max_hours, started)
        members = []
        for experiment, workdir in todo:
            checkpoints = stack.enter_context(open_checkpoints(experiment, workdir))
            held = workdir, mesh, checkpoints, stop
            how: dict[str, Any] = {"like": members[0]} if members else {}
            how |= dict(given=given, read_initial=read_initial)
            made = assemble(experiment, *held, **how)
            members.append(Member(made, *held))
            say(f"{workdir.name}: {headline(made, mesh)}")
        first = min(member.step for member in members)
        progress = stack.enter_context(
            Progress(
                experiments[0].train.total_steps,
                start=first,
                counted=experiments[0].workload.counted,
            )
        )
        for member in members:
            log = stack.enter_context(member.open_log())
            member.begin(log, progress, started)
        Population(members).run()


def check_alike(experiments: Sequence[Experiment]) -> None:
    """Refuses runs that one program cannot train.

    Raises: ConfigError naming the knobs in which they differ.
    """
    alike = [
        e._replace(seed=0, optim=_without_rate(e.optim)).as_dict() for e in experiments
    ]
    for section, values in alike[0].items():
        differ = [e[section] for e in alike if e[section] != values]
        if differ and isinstance(values, Mapping):
            names = [f"{section}.{k}" for k in values if values[k] != differ[0][k]]
        else:
            names = [section] if differ else []
        if names:
            raise ConfigError(
                f"{', '.join(names)} cannot differ between members of a population; "
                f"choose from ({', '.join(MAY_DIFFER)})"
            )
    batching = getattr(experiments[0].data, "batching", "fixed")
    if batching == "bucket" and len(experiments) > 1:
        raise ConfigError(
            f"data.batching={batching!r} gives the members of a population batches of "
            "different shapes; choose from (pack, fixed)"
        )
    if patience := experiments[0].train.stop_patience:
        raise ConfigError(
            f"train.stop_patience={patience}: members of a population make the same "
            "steps, none stops early; choose 0, or train them one by one"
        )
    if (processes := experiments[0].mesh.processes) > 1:
        raise ConfigError(
            f"mesh.processes={processes}: a population trains in one process; choose 1"
        )


class Member(loop.Training):
    """A run whose state is a slice of the population's, once it has joined."""

    read = write = None

    @property
    def name(self) -> str:
        """Its folder, among those of the others."""
        return self.workdir.name

    @property
    def state(self) -> Any:
        """Own parameters, optimizer and the rest; made when asked for."""
        return self._alone if self.read is None else self.read()

    @state.setter
    def state(self, state: Any) -> None:
        if self.write is None:
            self._alone = state
        else:
            self.write(state)

    def join(self, read: Callable[[], Any], write: Callable[[Any], None]) -> None:
        """From now on the state is what ``read()`` says, and goes to ``write``."""
        self._alone, self.read, self.write = None, read, write

    def leave(self) -> None:
        """From now on the state stays what it is."""
        self._alone, self.read, self.write = self.state, None, None


class Population:
    """Members, and the one program that makes a step of all of them."""

    def __init__(self, members: Sequence[Member]) -> None:
        self.members, first = members, members[0]
        frozen = _shared([member.state.params for member in members], first.experiment)
        placed = _without(first.compiled.placed, frozen)
        stacked = jax.tree.map(_stacked, placed)
        stack = jax.jit(lambda *each: _stack(jnp.stack, each), out_shardings=stacked)
        slice_of = jax.jit(
            lambda states, i: jax.tree.map(lambda x: x[i], states),
            out_shardings=placed,
        )
        replace = jax.jit(
            lambda states, i, state: jax.tree.map(
                lambda x, new: x.at[i].set(new), states, state
            ),
            donate_argnums=0,
            out_shardings=stacked,
        )

        def write(i, state):
            self.states = replace(self.states, i, _without(state, frozen))

        self.states = stack(*(_without(member.state, frozen) for member in members))
        self.frozen = frozen
        for i, member in enumerate(members):
            member.join(
                lambda i=i: _with(slice_of(self.states, i), frozen),
                functools.partial(write, i),
            )
        rates = [member.experiment.optim.peak_lr for member in members]
        self.rates = jnp.asarray(rates, jnp.float32)
        self.train_step = jax.jit(
            make_step(first.experiment, len(members)),
            donate_argnums=1,
            out_shardings=(stacked, None),
        )
        self.batches = [None] * len(members)

    def run(self) -> None:
        """Trains all members to their ends; see ``train`` for what it raises."""
        early = {}
        going = self._going(early)
        while going:
            metrics = self.step(going)
            for member, mine in zip(self.members, metrics, strict=True):
                if member in going:
                    with _noted(early, member):
                        member.account(mine)
            going = self._going(early)
        for member in self.members:
            if member not in early:
                with _noted(early, member):
                    member.finish(member.log)
        for error in early.values():
            if isinstance(error, Preempted):
                raise error
        if early:
            names = "; ".join(f"{m.workdir.name}: {e}" for m, e in early.items())
            raise Diverged(f"{len(early)} of {len(self.members)} diverged: {names}")

    def _going(self, early):
        """Those that have steps left; what has ended must not be trained any more."""
        for member in self.members:
            if member.at_end and member.read:
                member.leave()
        return [m for m in self.members if not m.at_end and m not in early]

    def step(self, going: Any) -> Any:
        """One step: metrics of each; the places of those not ``going`` are idle."""
        for i, member in enumerate(self.members):
            if member in going:
                self.batches[i] = member.next_batch()
        any_one = next(batch for batch in self.batches if batch)
        batches = [batch or any_one for batch in self.batches]
        batch = put_batch(self.members[0].mesh, _stack(np.stack, batches), leading=2)
        self.states, metrics = self.train_step(
            self.rates, self.states, batch, self.frozen
        )
        return metrics


def make_step(experiment: Experiment, size: int) -> Callable:
    """``step(rates [S], states, batches, frozen) -> (states, metrics of each)``.

    Every array of states and batches has a leading axis of ``size`` members; ``frozen``
    are the parameters that all of them have, see ``_shared``, and no state.
    """

    def member_step(rate, state, batch, frozen):
        train_step = program.build(experiment, peak_lr=rate).train_step
        state, metrics = train_step(_with(state, frozen), batch)
        return _without(state, frozen), metrics

    def step(rates, states, batches, frozen):
        each = jax.vmap(member_step, in_axes=(0, 0, 0, None))
        states, metrics = each(rates, states, batches, frozen)
        of_each = [jax.tree.map(lambda x, i=i: x[i], metrics) for i in range(size)]
        return states, of_each

    return step


@contextlib.contextmanager
def _noted(early, member):
    """One member that ends before the others does not end them."""
    try:
        yield
    except (Diverged, Preempted) as error:
        early[member] = error
        say(f"{member.workdir.name}: {error}")


def _shared(params, experiment):
    """The frozen parameters if all members have the same, None in place of others."""

    def of_one(held, first, *rest):
        same = held and all(bool(jnp.array_equal(first, x)) for x in rest)
        return first if same else None

    held = layerwise.frozen("|".join(experiment.frozen), params[0])
    return jax.tree.map(of_one, held, *params)


def _without(state, frozen):
    """``state`` with None in place of what is ``frozen``."""
    return _merged(state, frozen, lambda held, x: x if held is None else None)


def _with(state, frozen):
    """The inverse of ``_without``."""
    return _merged(state, frozen, lambda held, x: x if held is None else held)


def _merged(state, frozen, choose):
    def is_none(x):
        return x is None

    params = jax.tree.map(choose, frozen, state.params, is_leaf=is_none)
    return state._replace(params=params)


def _without_rate(cfg):
    return dataclasses.replace(cfg, peak_lr=0.0)


def _stack(stack, trees):
    return jax.tree.map(lambda *leaves: stack(leaves), *trees)


def _stacked(sharding):
    return NamedSharding(sharding.mesh, PartitionSpec(None, *sharding.spec))
