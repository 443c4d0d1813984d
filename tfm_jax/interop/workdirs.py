"""Folders of other libraries as workdirs of runs, and workdirs as such folders."""

import dataclasses
from pathlib import Path
from typing import Any

from tfm_jax.config import ConfigError, no_choice, to_json
from tfm_jax.data.errors import DataError
from tfm_jax.data.tokenizers.normalize import NORMALIZERS
from tfm_jax.decode.search import TokenIds
from tfm_jax.interop import folders, schedulers, tokenizer_files
from tfm_jax.interop.tokenizer_files import TOKENIZER, UNLIMITED, meanings
from tfm_jax.models import MODELS, family_of
from tfm_jax.runs import saved
from tfm_jax.runs.storage.checkpoint import Checkpointer
from tfm_jax.runs.storage.weights import DIRECTORY
from tfm_jax.runs.workdir import describe, preflight
from tfm_jax.settings import experiment
from tfm_jax.settings.configure import configure
from tfm_jax.workloads import WORKLOADS

IDS = ("bos_token", "eos_token", "pad_token")  # those that a model's config.json names


def import_folder(
    folder: str | Path, workdir: str | Path, *, tokenizer: str = ""
) -> Path:
    """Leaves the model of ``folder`` in ``workdir`` as a run that made no step.

    Its task is the first that the model's head can learn; what the folder does not
    say, data and optimizer, has its defaults.

    Args:
        tokenizer: file or folder; by default what the folder itself has. A
            translation model needs one of our own, with the ids that the model has;
            one of images has none.
    Returns: the checkpoint.
    Raises: ConfigError if the folder, or its tokenizer, has no counterpart here, or
        there is a run in ``workdir``.
    """
    try:
        loaded = folders.load(folder)
    except (ValueError, FileNotFoundError, NotADirectoryError) as error:
        raise ConfigError(f"{folder}: {error}") from error
    workdir = Path(workdir)
    if (workdir / "config.json").exists() or (workdir / DIRECTORY).exists():
        raise ConfigError(f"{workdir} holds a run; choose another WORKDIR")
    name, task = task_of(loaded.config)
    words = _tokenizer(task, Path(tokenizer or folder), bool(tokenizer))
    if getattr(loaded, "special", TokenIds()) != TokenIds():
        raise ConfigError(
            f"{folder} has the token ids {loaded.special}, but runs here translate "
            f"with {TokenIds()}; tfm_jax.notebook.load_huggingface reads it"
        )
    if resizing := getattr(loaded, "resizing", ""):
        raise ConfigError(
            f"{folder}/{resizing}; --config.init_from={folder} takes its parameters, "
            "tfm_jax.notebook.load_huggingface reads it for images of the model's size"
        )
    try:
        data = _data(task, loaded, words, folder)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    sections = {"model": dataclasses.asdict(loaded.config), "data": data}
    if words:
        sections["tokenizer"] = _tokenizer_section(words, workdir / TOKENIZER)
    built = experiment.resolve(configure(name, task, **sections))
    built = built.complete(words)
    report = {"folder": str(folder), **({"ids": _ids(loaded)} if words else {})}
    if getattr(loaded, "labels", ()):
        report["labels"] = loaded.labels
    report = {"imported": report}
    return write_run(workdir, built, words, loaded.params, report)


def write_run(
    workdir: str | Path, built: Any, tokenizer: Any, params: Any, report: dict
) -> Path:
    """Leaves a model in ``workdir`` as a run that made no step.

    Args:
        built: ``Experiment``. tokenizer: of its task, or None. params: nested dict,
            unrolled.
        report: plain JSON, of where the model is from.
    Returns: the checkpoint.
    """
    workdir = preflight(workdir)
    texts = {
        "config.json": to_json(built.as_dict()),
        **({TOKENIZER: tokenizer.to_json()} if tokenizer else {}),
        "data_report.json": to_json(report),
    }
    describe(workdir, texts)
    averaged = {"ema": params} if built.train.ema_decay else {}
    with Checkpointer(workdir / DIRECTORY, built.checkpoint) as checkpoints:
        checkpoints.save(0, {"params": params} | averaged, extras=texts, wait=True)
        return checkpoints.path(0)


def export_run(
    workdir: str | Path, folder: str | Path, *, model_type: str = "", tower: str = ""
) -> Path:
    """Writes the newest sound checkpoint of ``workdir`` as a folder: ``folders.save``.

    And its tokenizer, if it reads text: transformers makes the same ids of a text as
    the run does, with what stands around it. Where a translation's languages have a
    vocabulary each, that of the target lies in the folder ``tokenizer_files.TARGET``.

    Args:
        workdir: or one checkpoint below it. model_type: see ``save_huggingface``.
        tower: of a jointly trained model, see ``Family``; by default the first.
    Returns: ``folder``.
    Raises: ConfigError if there is no run, the model has no counterpart, or ``folder``
        is not empty; CorruptCheckpoint.
    """
    try:
        run = saved.load(workdir)
    except FileNotFoundError as error:
        raise ConfigError(f"{workdir}: {error}") from error
    config, params, folder = run.experiment.model, run.params, Path(folder)
    config, params = _tower(config, params, tower, workdir)
    special = getattr(run.tokenizer, "special", None)  # None: of pairs, or no text
    named: dict[str, Any] = {}
    if special is not None:
        meant = meanings(special)
        named["ids"] = {f"{n}_id": special.get(meant.get(n)) for n in IDS}
    if hasattr(run.experiment.data, "labels"):
        named["labels"] = saved.label_names(run)
    try:
        folders.save(folder, params, config, model_type=model_type, **named)
    except (ValueError, FileExistsError, NotADirectoryError) as error:
        raise ConfigError(f"{workdir}: {error}") from error
    if run.experiment.task == "denoise":
        data = run.experiment.data
        how = dict(spacing=data.sampler.spacing, clip=data.sampler.clip)
        schedulers.write(folder, data.noise, **how)
    longest = getattr(config, "max_length", config.longest or UNLIMITED)
    if special is not None:
        types, around = getattr(config, "types", 1) > 1, _around(run)
        tokenizer_files.write(
            folder, run.tokenizer, around, longest=longest, types=types
        )
    elif run.tokenizer:
        lowercase = NORMALIZERS[run.experiment.data.normalize].lowercase
        tokenizer_files.write_pairs(
            folder, run.tokenizer, longest=longest, lowercase=lowercase
        )
    return folder


def _tower(config, params, tower, workdir):
    """(config, parameters) of a tower, or as they are of a model that has none."""
    family = family_of(config)
    if getattr(config, "head", "") not in family.joint:
        if tower:
            able = ", ".join(name for name, each in MODELS.items() if each.joint)
            raise ConfigError(
                f"--tower={tower} is for a jointly trained model ({able})"
            )
        return config, params
    tower = tower or next(iter(family.towers))
    if tower not in family.towers:
        raise ConfigError(no_choice("--tower", tower, tuple(family.towers)))
    try:
        return family.towers[tower](config, params)
    except ValueError as error:
        others = " or ".join(f"--tower={x}" for x in family.towers if x != tower)
        raise ConfigError(f"{workdir}: {error}; {others}") from error


def unwritten(workdir: str | Path) -> str:
    """What transformers would do otherwise, and cannot be told; "" is nothing.

    Raises: as ``export_run`` does.
    """
    experiment = saved.load(workdir).experiment
    data, model = experiment.data, experiment.model
    if hasattr(model, "pixel_mean") and data.fit == "crop":
        height, width = model.image
        return (
            f"transformers stretches images to {height}x{width} pixels, this run crops "
            "them (data.fit='crop'): crop those of other proportions first"
        )
    normalize = getattr(data, "normalize", "none")
    if not NORMALIZERS[normalize].moses:
        return ""
    return (
        f"transformers has no data.normalize={normalize!r}: give it the text as "
        "tfm_jax.data.tokenizers.normalize.Normalizer.apply leaves it"
    )


def assumed(workdir: str | Path, folder: str | Path) -> str:
    """What an imported run assumes that ``folder`` does not say; "" is nothing."""
    run = saved.load(workdir).experiment
    if run.task != "denoise" or schedulers.read(folder) is not None:
        return ""
    noise = run.data.noise
    return (
        f"there is no {schedulers.FILE}: data.noise is taken to have prediction="
        f"{noise.prediction}, schedule={noise.schedule}, steps={noise.steps}"
    )


def _around(run):
    """The special tokens that a run has read around a text."""
    data = run.experiment.data
    separator = getattr(data, "separator", "")
    if separator:
        return tokenizer_files.Around(begin=separator)
    if run.experiment.task == "causal_lm":
        return tokenizer_files.NOTHING
    frame = getattr(data, "frame", "bert")
    return tokenizer_files.framed(frame, run.tokenizer.special)


def task_of(config: Any) -> tuple[str, str]:
    """(key of MODELS, key of WORKLOADS) for a model's configuration.

    Raises: ConfigError if no task trains its head.
    """
    family = family_of(config)
    head = getattr(config, "head", None)
    for task, heads in family.learns.items():
        if head is None or head in heads:
            return family.name, task
    raise ConfigError(
        f"no task here trains {family.name} with model.head={head!r}; "
        "--config.init_from=FOLDER takes its parameters for another head, and "
        "tfm_jax.notebook.load_huggingface reads it without a run"
    )


def _tokenizer(task, path, given):
    if WORKLOADS[task].tokenizer is None:
        if given:
            raise ConfigError(f"--tokenizer={path} is for text; task={task!r} has none")
        return None
    if task == "translation" and path.is_dir():
        path = tokenizer_files.of_pairs(path)
    hint = "" if given else "; name a tokenizer with --tokenizer=PATH"
    if not path.exists():
        raise ConfigError(f"there is no {path}{hint}")
    try:
        return WORKLOADS[task].tokenizer.load(path)
    except DataError as error:
        if path.is_dir():  # nothing in it that is known
            hint += _sentencepiece(path)
        raise ConfigError(f"{error}{hint}") from error


def _sentencepiece(folder):
    pieces = sorted(p.name for p in folder.iterdir() if p.suffix in (".model", ".spm"))
    return (
        f". What {', '.join(pieces)} holds, transformers writes as {TOKENIZER}: "
        "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(NEW_FOLDER)"
        if pieces
        else ""
    )


def _tokenizer_section(tokenizer, path):
    if not hasattr(tokenizer, "source_vocab"):
        return dict(kind="published", file=str(path.absolute()))
    size = max(tokenizer.source_vocab, tokenizer.target_vocab)
    return dict(kind=tokenizer.kind, vocab=size, shared=tokenizer.shared)


def _data(task, loaded, tokenizer, folder):
    """Fields of the data section for which their defaults do not suit the model."""
    config, family = loaded.config, family_of(loaded.config)
    cls = WORKLOADS[task].data.Config
    if hasattr(config, "image_size"):
        color = {1: "grey", 3: "rgb"}.get(config.channels, "native")
        images = dict(image_size=config.image_size, color=color)
        if task != "denoise":
            return images | dict(labels=loaded.labels, fit="stretch")
        learned = dict(variance="learned") if config.variance == "learned" else {}
        noise = (schedulers.read(folder) or {}) | learned
        most = cls().sampler.steps  # of all that there are
        drawn = dict(steps=min(noise.get("steps", most), most))
        return images | dict(noise=noise, sampler=drawn)
    longest = getattr(config, "max_length", config.longest or UNLIMITED)
    defaults = {field.name: field.default for field in dataclasses.fields(cls)}
    most = {"length": longest, "stride": longest // 3, "question_length": longest // 6}
    kept = defaults.keys() & most.keys()
    suited = {field: min(most[field], defaults[field]) for field in kept}
    if task == "causal_lm":  # whose score depends on the context
        suited["length"] = longest
    if "frame" in defaults:
        suited["frame"] = family.frame
    if "labels" in defaults:
        suited["labels"] = loaded.labels
    if "separator" in defaults:
        suited["separator"] = tokenizer_files.begins_with(tokenizer)
    if task == "retrieval":
        suited |= dict(image_size=config.vision.image_size, fit="stretch")
        if config.head == "retrieval":  # which generates nothing
            suited["objectives"] = ("contrastive", "matching")
    if "pairs" in defaults:
        suited["pairs"] = {"kind": family.pairs.get(config.head, "none")}
    return suited


def _ids(loaded):
    if hasattr(loaded, "ids"):
        return loaded.ids
    return loaded.special._asdict() | {"force_eos": loaded.force_eos}
