"""May a run go on or be used so, and what is kept of one that diverged."""

import io
import zipfile
from pathlib import Path
from typing import Any

import jax
import numpy as np

from tfm_jax.config import ConfigError, to_json
from tfm_jax.data.batch import FORMER, TextBatch
from tfm_jax.data.errors import DataError
from tfm_jax.optim.schedules import SCHEDULES
from tfm_jax.runs.extend import Length, length
from tfm_jax.runs.process.exits import CorruptCheckpoint, one_line
from tfm_jax.runs.storage import arrays, weights
from tfm_jax.runs.storage.checkpoint import Checkpointer, Config
from tfm_jax.settings import files, held_out
from tfm_jax.settings.experiment import Experiment, resolve

_ONE = Config(keep=1, keep_best=0)
# knobs that may change between one start and the next, besides those of operation: none
# of them alters an update
FREE = {
    "train.total_steps",  # see ``check_length``
    "train.extended_at",
    "train.stop_patience",  # and the metric only say where it ends
    "train.stop_metric",
    "train.skip_limit",  # only says when to give up
    *files.DATA_FILES,  # the content is compared, wherever it lies
    # the devices of another machine; the other knobs of execution round otherwise
    "mesh.data",
    "mesh.fsdp",
    "mesh.tensor",
    "mesh.cpu_devices",
    "mesh.processes",
}


MADE = ("data.numerals_", "data.recall_")  # what examples are that are made


def experiment_of(extras: dict, path: Path) -> Experiment:
    """The experiment that a checkpoint continues. Raises: CorruptCheckpoint."""
    wanted, experiment = ["config.json", "data.json"], None
    if isinstance(extras.get("config.json"), dict):
        experiment = resolve(extras["config.json"])
        wanted += ["tokenizer.json"] if experiment.workload.tokenizer else []
    lacking = [name for name in wanted if not isinstance(extras.get(name), dict)]
    if not experiment or lacking:
        raise CorruptCheckpoint(f"checkpoint {path} has no {', '.join(lacking)}")
    return experiment


def check_kind(before: Experiment, now: Experiment, path: Path) -> None:
    """Refuses a run of another family before anything of it is read.

    Raises: ConfigError naming which run lies there, and what differs.
    """
    names = ("model_name", "task")
    differ = [name for name in names if getattr(before, name) != getattr(now, name)]
    if differ:
        there, here = (
            ", ".join(f"{name}={getattr(run, name)!r}" for name in differ)
            for run in (before, now)
        )
        raise ConfigError(
            f"{path} is of a run with {there}, not {here}; choose another --workdir"
        )


def check_continues(before: Experiment, now: Experiment, step: int) -> Length | None:
    """Refuses to go on from a checkpoint whose configuration differs in substance.

    Args: before, step: of the checkpoint.
    Returns: see ``check_length``.
    Raises: ConfigError naming every field that differs, with both values; see also
        ``check_length``.
    """
    decides = SCHEDULES[before.optim.schedule].watches  # evaluations cut the rate
    held = {"eval.every_steps"} if decides else set()
    differ = _differences(
        before,
        now,
        lambda knob, role: (role == "operation" or knob in FREE) and knob not in held,
    )
    if differ:
        raise ConfigError(
            f"the workdir holds another run; {'; '.join(differ)}. "
            "Choose another --workdir, or take these flags back"
        )
    return check_length(before, now, step)


def check_length(before: Experiment, now: Experiment, step: int) -> Length | None:
    """Refuses other ``train.total_steps`` that nobody can have wanted.

    Returns: what another length does, or None.
    Raises: ConfigError if more steps are made already; also if the learning rate jumps,
        for its schedule ends with them, unless ``train.extended_at`` says so.
    """
    old, new = before.train.total_steps, now.train.total_steps
    if new < step:
        raise ConfigError(
            f"train.total_steps={new}, but this run has made {step} steps; choose more "
            "of them, or another --workdir"
        )
    if new in (old, step):
        return None
    other = length(old, now, step)
    if not SCHEDULES[now.optim.schedule].ends:
        return other
    if now.train.extended_at != step:
        raise ConfigError(f"{other}; train.extended_at={step} says that it should")
    return other


def used(trained: Experiment, now: Experiment) -> Experiment:
    """``now`` with the vocabularies of ``trained`` where it leaves them open.

    Raises: ConfigError naming every field of role "architecture", and of MADE, that
        differs from what the parameters were trained with, and every one by which
        examples are held out that were trained on.
    """
    if now.task == trained.task:
        now = now.complete(start=trained.model)
    held = held_out.otherwise(trained, now)
    differ = _differences(
        trained,
        now,
        lambda knob, role: (
            role != "architecture" and not knob.startswith(MADE) and knob not in held
        ),
    )
    if differ:
        raise ConfigError(
            f"the parameters were trained otherwise; {'; '.join(differ)}. "
            "Take these flags back; what may differ is how it was trained, which text "
            "is read, model.dtype, eval. and the like"
        )
    return now


def _differences(saved, now, free):
    """What differs, in words, but for knobs that are ``free(knob, role)``."""
    roles = saved.roles() | now.roles()
    old, new = saved.knobs(), now.knobs()
    return [
        f"{knob}: {old.get(knob)!r} in the checkpoint, {new.get(knob)!r} now"
        for knob in sorted(old.keys() | new.keys())
        if old.get(knob) != new.get(knob) and not free(knob, roles[knob])
    ]


def go_on(batches: Any, state: dict) -> None:
    """Puts the training batches where a checkpoint left them.

    Raises: ConfigError naming what differs if they are not those it was trained on.
    """
    try:
        batches.set_state(state)
    except (KeyError, TypeError) as error:
        raise CorruptCheckpoint(f"data.json of the checkpoint: {error!r}") from error
    except ValueError as error:
        raise ConfigError(f"{error}; choose another --workdir") from error


def dump_diverged(
    workdir: Path, experiment: Experiment, step: int, state: Any, batch: TextBatch
) -> Path:
    """A checkpoint of what is needed to see a bad update again: ``workdir/diverged/``.

    Args:
        step: updates before the first bad one, of which none has changed the state.
        batch: the whole batch of that update, [A, B, ...].
    """
    rows, file = {_stored(k): v for k, v in batch._asdict().items()}, io.BytesIO()
    rows = jax.device_get({k: v for k, v in rows.items() if v is not None})
    np.savez(file, **rows)
    extras = {
        "config.json": to_json(experiment.as_dict()),
        "batch.npz": file.getvalue(),
    }
    with Checkpointer(workdir / "diverged", _ONE) as dumps:
        dumps.discard(0)
        dumps.save(step, state, extras=extras, wait=True)
        return dumps.path(step)


def diverged(workdir: Path) -> Path:
    """Where the newest dump of a run is. Raises: ConfigError if it has not diverged."""
    folder = workdir / "diverged"
    for path in [*weights.numbered(folder)[-1:], folder]:  # before, it was in that
        if (path / "config.json").is_file():
            return path
    raise ConfigError(f"no run in {workdir} has diverged")


def load_diverged(path: Path, experiment: Experiment, abstract: Any) -> tuple:
    """(state like ``abstract``, batch of the task) of ``dump_diverged``.

    Raises: DataError if the batch is damaged; see also ``Checkpointer.restore``.
    """
    former = path / "update.npz"
    kind, file = type(experiment.objective.example()), path / "batch.npz"
    if former.exists():
        file = former
    else:
        with Checkpointer(path.parent, _ONE) as dumps:
            state = dumps.restore(int(path.name), abstract)
    try:
        with open(file, "rb") as opened, np.load(opened) as dump:
            batch = kind(**{name: dump.get(_stored(name)) for name in kind._fields})
            if former.exists():
                leaves = [dump[f"state/{name}"] for name in arrays.leaves(abstract)]
                state = jax.tree.unflatten(jax.tree.structure(abstract), leaves)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{file}: {one_line(error)}") from error
    return state, batch


def _stored(field):
    return f"batch/{FORMER.get(field, field)}"
