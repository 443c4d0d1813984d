"""Study files: Python files, each a question, found by name or by path."""

import importlib
import importlib.util
import inspect
import pkgutil
import re
import traceback
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from experiments.study import Study
from tfm_jax.api import ConfigError, nearest

PACKAGE = "experiments.studies"
_YEAR = re.compile(r"\b(19|20)\d\d\b")
_SPEC = re.compile(r"(?P<name>.+\.py|[^:]*)(:(?P<scale>.*))?", re.DOTALL)


class StudyFile(NamedTuple):
    """A study at one scale.

    Attributes:
        name: of the file, without folder and ending. scale: as it was asked for.
        question: the first paragraph of the docstring. source: the last one, if it
            names the year of a publication, else "".
        path: of a file of the user's own; None of ours.
    """

    name: str
    scale: str
    question: str
    source: str
    study: Study
    path: Path | None


def read(spec: str) -> StudyFile:
    """``NAME[:SCALE]`` or ``FILE.py[:SCALE]``.

    Raises: ConfigError in one line for an unknown name or scale, and for whatever the
        file stumbles on.
    """
    parts = _SPEC.fullmatch(spec)
    name, scale = parts["name"], parts["scale"] or "cpu"
    path = Path(name).expanduser() if name.endswith(".py") else None
    if path and not path.is_file():
        raise ConfigError(f"study {name!r}: no such file")
    module = _own(name, path) if path else _ours(name)
    study = _get(name, module, scale)
    paragraphs = inspect.cleandoc(module.__doc__ or "").split("\n\n")
    question, *rest = paragraphs
    if not question:
        raise ConfigError(
            f"study {name!r}: the file has no docstring; its first paragraph is the "
            "question"
        )
    source = rest[-1] if rest and _YEAR.search(rest[-1]) else ""
    if study.published and not source:
        raise ConfigError(
            f"study {name!r}: expect has published findings, but the docstring's last "
            "paragraph names no source and its year; write check(...) around those of "
            "your own, or leave expect out"
        )
    return StudyFile(Path(name).stem, scale, question, source, study, path)


def _ours(name: str) -> ModuleType:
    package = importlib.import_module(PACKAGE)
    names = [module.name for module in pkgutil.iter_modules(package.__path__)]
    if name not in names:
        raise ConfigError(
            f"study {name!r}: no such study; choose from ({', '.join(names)})"
            f"{nearest(name, names)}"
        )
    module = importlib.import_module(f"{PACKAGE}.{name}")
    module.SCALES = getattr(module, "SCALES", package.SCALES)
    return module


def _own(name: str, path: Path) -> ModuleType:
    place = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(place)
    try:
        place.loader.exec_module(module)
    except Exception as error:
        raise ConfigError(f"study {name!r}: {_reason(error, path)}") from error
    return module


def _get(name, module, scale):
    if not hasattr(module, "get_study"):
        raise ConfigError(f"study {name!r}: the file defines no get_study(scale)")
    scales = getattr(module, "SCALES", ())
    choices = f"choose from ({', '.join(scales)})" if scales else "see its get_study"
    unknown = (
        f"study {name!r} has no scale {scale!r}; {choices}{nearest(scale, scales)}"
    )
    if scales and scale not in scales:
        raise ConfigError(unknown)
    try:
        study = module.get_study(scale)
    except Exception as error:
        reason = _reason(error, Path(module.__file__))
        message = unknown if error.args == (scale,) else f"study {name!r}: {reason}"
        raise ConfigError(message) from error
    if not isinstance(study, Study):
        raise ConfigError(f"study {name!r}: get_study({scale!r}) returned no Study")
    return study


def _reason(error, path):
    """What is wrong, and in which line of the file."""
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}: {error.msg}"
    if type(error) is ValueError:  # what ``Study`` says
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f.lineno for f in frames if Path(f.filename) == Path(path)]
    where = f"line {lines[-1]}: " if lines else ""
    return f"{where}{type(error).__name__}: {error}"
