"""Sets of pairs, texts and images of TensorFlow Datasets, read without TensorFlow.

Only what is already on disk in the array_record format is read; nothing is ever
downloaded or prepared here.
"""

import importlib
from collections.abc import Sequence
from typing import Any

from tfm_jax.data.errors import DataError
from tfm_jax.data.tokenizers.normalize import decode
from tfm_jax.data.watchdog import each
from tfm_jax.knobs import knob

KNOBS = ("tfds_name", "tfds_data_dir", "tfds_train", "tfds_valid", "tfds_test")


def name_knob(default: str) -> Any:
    """The knob ``tfds_name``."""
    return knob(default, "source=tfds: name of the data set")


def data_dir_knob() -> Any:
    """The knob ``tfds_data_dir``."""
    return knob("", '"": where TFDS puts its data')


def train_knob() -> Any:
    """The knob ``tfds_train``."""
    return knob(
        "train", "its split to train on; splits may be slices such as train[:90%]"
    )


def load(cfg: Any, split: str) -> tuple[list[str], list[str], dict[str, Any]]:
    """The pairs of one split: (sources, targets, report).

    Raises: DataError, one line that says what to do, if TFDS or the data set is
        absent, unprepared, or has no such split or language.
    """
    wanted = getattr(cfg, f"tfds_{split}")
    if not wanted:
        return [], [], {"tfds": cfg.tfds_name}
    builder = _builder(cfg, "translate")
    languages = (cfg.source_language, cfg.target_language)
    for language, side in zip(languages, ("source", "target"), strict=True):
        if language not in builder.info.features:
            known = ", ".join(builder.info.features)
            raise DataError(
                f"data.{side}_language={language!r} is not in {cfg.tfds_name}; choose "
                f"from ({known})"
            )
    return _read(cfg, builder, split, languages)


def load_features(cfg: Any, split: str, features: Sequence[str]) -> tuple:
    """Named features of one split: (a list per feature, report).

    Text comes as strings, numbers as they are; an absent split is empty lists.

    Raises: DataError as `load` does, and for a feature that the set does not have.
    """
    if not getattr(cfg, f"tfds_{split}"):
        return *([] for _ in features), {"tfds": cfg.tfds_name}
    builder = _with_features(cfg, features, "text", "question_answering")
    return _read(cfg, builder, split, features)


def _with_features(cfg, features, *topics):
    builder = _builder(cfg, *topics)
    for name in features:
        if name not in builder.info.features:
            known = ", ".join(builder.info.features)
            raise DataError(
                f"{cfg.tfds_name} has no feature {name!r}; choose from ({known})"
            )
    return builder


def open_split(
    cfg: Any,
    topic: str,
    split: str,
    features: Sequence[str],
    raw: Sequence[str] | None = None,
) -> tuple:
    """(examples with random access, of which bytes stay bytes, builder) of one split.

    Args:
        topic: module of TFDS with such sets.
        features: those that there must be. raw: of them, that stay bytes; None: all.
    Raises: DataError as `load_features` does.
    """
    builder = _with_features(cfg, features, topic)
    from tensorflow_datasets.core import decode as decoders

    skipped = {
        name: decoders.SkipDecoding()
        for name in (features if raw is None else raw)
        if hasattr(builder.info.features[name], "decode_example_np")
    }
    return _examples(cfg, builder, split, decoders=skipped), builder


def _examples(cfg, builder, split, **options):
    wanted = getattr(cfg, f"tfds_{split}")
    try:
        return builder.as_data_source(split=wanted, **options)
    except ValueError as error:
        raise DataError(f"data.tfds_{split}={wanted!r}: {_first(error)}") from error


def _read(cfg, builder, split, features):
    wanted, examples = getattr(cfg, f"tfds_{split}"), _examples(cfg, builder, split)
    columns, replaced = tuple([] for _ in features), 0
    for number, example in enumerate(each(examples, cfg.tfds_name)):
        for name, column in zip(features, columns, strict=True):
            where = f"{cfg.tfds_name} {wanted}: example {number}, {name}"
            value, wrong = example[name], False
            if isinstance(value, bytes):
                value, wrong = decode(value, cfg.invalid_utf8, where)
            column.append(value)
            replaced += wrong
    report = {"tfds": builder.info.full_name, "split": wanted}
    return *columns, {**report, "invalid_utf8_lines": replaced}


def _builder(cfg, *topics):
    try:
        import tensorflow_datasets as tfds

        for topic in topics:  # registers the data sets
            importlib.import_module(f"tensorflow_datasets.{topic}")
    except ImportError as error:
        raise DataError(
            f"data.source='tfds' needs the package tensorflow-datasets: {error}"
        ) from error
    name, folder = cfg.tfds_name, cfg.tfds_data_dir or None
    if ":" in name:
        raise DataError(
            f"data.tfds_name={name!r} belongs to a community repository, which would "
            f"be asked over the network; name a data set of TFDS itself"
        )
    try:
        builder = tfds.builder(name, data_dir=folder, try_gcs=False)
    except (ValueError, OSError, ImportError) as error:
        raise DataError(f"data.tfds_name={name!r}: {_first(error)}") from error
    prepare = (
        f"tfds build {name} --file_format=array_record "
        f"--data_dir={folder or builder.data_dir_root}"
    )
    if not builder.is_prepared():
        raise DataError(
            f"{name} is not prepared in {builder.data_path}; on a machine with a "
            f"network and tensorflow run: {prepare}"
        )
    if builder.info.file_format.value != "array_record":
        raise DataError(
            f"{builder.data_path} holds {builder.info.file_format.value} files, which "
            f"only tensorflow reads; prepare it again in another folder: {prepare}"
        )
    return builder


def _first(error):
    return str(error).strip().split("\n")[0]
