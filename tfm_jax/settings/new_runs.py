"""New runs: what is refused before anything is prepared or written."""

from collections.abc import Collection, Iterator
from pathlib import Path

from tfm_jax.config import ConfigError, Reader, flatten, readers_of, with_defaults
from tfm_jax.models import MODELS
from tfm_jax.optim.schedules import SCHEDULES
from tfm_jax.settings import held_out
from tfm_jax.settings.experiment import Experiment, section_types
from tfm_jax.workloads import WORKLOADS


def check(
    experiment: Experiment, workdir: str | Path, given: Collection[str] = ()
) -> None:
    """Refuses a new run of which a knob has no effect, or that cannot end well.

    A run that has begun goes on, also if it began before this was refused.

    Args: given: see ``check_read``.
    Raises: ConfigError naming the knobs.
    """
    if not Path(workdir, "config.json").expanduser().exists():
        check_settings(experiment)
        check_read(experiment, given)


def check_read(
    experiment: Experiment, given: Collection[str], *, whole: bool = True
) -> None:
    """Refuses a knob that is set while the value of another one ignores it.

    A knob of a configuration that a flag makes useless is none of that flag's business:
    one flag is one ablation.

    Args:
        given: dotted knobs set besides the configuration.
        whole: the configuration itself is checked, too.
    Raises: ConfigError naming both knobs.
    """
    for reader, values in _ignored(experiment, given):
        if reader.knob in given or (whole and reader.other not in given):
            raise ConfigError(reader.complaint(values))


def check_settings(experiment: Experiment) -> None:
    """Refuses what runs of before were let do, and what one finds out at its end only.

    Raises: ConfigError naming the knobs.
    """
    MODELS[experiment.model_name].check_new(experiment.model)
    experiment.workload.check_new(experiment)
    experiment.check_kernel(train=True)
    if message := experiment.workload.data.few(experiment.data):
        raise ConfigError(message)
    for name, variant in experiment.variants().items():
        for knob in sorted(held_out.otherwise(experiment, variant)):
            raise ConfigError(
                f"eval.variants, {name!r}: {knob} would hold out examples that are "
                "trained on; take it back"
            )
    kept, wanted = experiment.checkpoint, experiment.eval.average_last
    if wanted > kept.keep:
        raise ConfigError(
            f"eval.average_last={wanted} checkpoints are more than checkpoint.keep="
            f"{kept.keep} leaves; raise the one or lower the other"
        )
    if message := _stops_before_a_cut(experiment):
        raise ConfigError(message)
    scores, train = {"loss": True} | ranking(experiment), experiment.train
    for knob, metric, read in (
        ("checkpoint.metric", kept.metric, kept.keep_best),
        ("train.stop_metric", train.stop_metric, train.stop_patience),
    ):
        if read and not scores.get(metric):
            able = ", ".join(name for name, there in scores.items() if there)
            raise ConfigError(
                f"{knob}={metric!r} is no score of the evaluations of "
                f"task={experiment.task!r}; choose from ({able})"
            )


def _stops_before_a_cut(experiment):
    """What is wrong if a run always stops early where its rate would be cut, or ""."""
    optim, train = experiment.optim, experiment.train
    score_of = experiment.workload.score_of
    same = score_of(train.stop_metric) == score_of("loss")
    if not (SCHEDULES[optim.schedule].watches and same and train.stop_patience):
        return ""
    if train.stop_patience > optim.cut_patience:
        return ""
    return (
        f"train.stop_patience={train.stop_patience} ends a run before "
        f"optim.schedule={optim.schedule!r} cuts the rate, after optim.cut_patience="
        f"{optim.cut_patience} evaluations; raise the one or lower the other"
    )


def ranking(experiment: Experiment) -> dict[str, bool]:
    """Score of an evaluation while training -> whether this run has it."""
    every = [score for workload in WORKLOADS.values() for score in workload.scores]
    own, there = experiment.workload.scores, experiment.workload.has_score
    return {n: n in own and there(experiment, n) for n in (*own, *every)}


def across_sections() -> Iterator[Reader]:
    """Which workloads read a knob of another section, where not all of them do."""
    readers: dict[str, list[str]] = {}
    for task, workload in WORKLOADS.items():
        samples = ("samples",) if workload.samples_by else ()
        for knob in (*samples, *workload.eval_knobs):
            readers.setdefault(f"eval.{knob}", []).append(task)
        if workload.smooths:
            readers.setdefault("train.label_smoothing", []).append(task)
    for knob, tasks in readers.items():
        yield Reader(knob, "task", tuple(tasks))


def unread(experiment: Experiment) -> set[str]:
    """Dotted knobs that the value of another one ignores."""
    values = experiment.knobs()
    readers = _readers(section_types(experiment.model_name, experiment.task))
    return {r.knob for r in readers if values[r.other] not in r.readers}


def _readers(sections):
    yield from across_sections()
    for name, cls in sections.items():
        yield from readers_of(cls, f"{name}.")


def _ignored(experiment, given):
    sections = section_types(experiment.model_name, experiment.task)
    values = experiment.knobs()
    defaults = {n: with_defaults(cls, {}) for n, cls in sections.items()}
    usual = [dict(flatten(some)) for some in (defaults, experiment.workload.defaults)]
    for reader in _readers(sections):
        now, value = values[reader.other], values[reader.knob]
        unset = [some[reader.knob] for some in usual if reader.knob in some]
        if reader.knob in given:  # only the task's own default
            unset = unset[-1:]
        if now not in reader.readers and value not in unset:
            yield reader, values
