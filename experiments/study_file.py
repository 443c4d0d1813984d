"""Study files: Python files, each a question, found by name or by path."""

import importlib
import importlib.machinery
import importlib.util
import inspect
import pkgutil
import re
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from experiments.adhoc import study_text
from experiments.study import Study
from tfm_jax.api import ConfigError, nearest

PACKAGE = "experiments.studies"
ROOT = Path("runs/studies")  # where studies live
_YEAR = re.compile(r"\b(19|20)\d\d\b")
_SPEC = re.compile(r"(?P<name>.+\.py|[^:]*)(:(?P<scale>.*))?", re.DOTALL)


class StudyFile(NamedTuple):
    """A study at one scale.

    Attributes:
        name: of the file, without folder and ending. scale: as it was asked for.
        question: the first paragraph of the docstring. source: the last one, if it
            names the year of a publication, else "".
        path: of a file of the user's own; None of one that is found by its name.
        command: that it was written for, if nobody has edited it since; else "".
    """

    name: str
    scale: str
    question: str
    source: str
    study: Study
    path: Path | None
    command: str = ""


def read(spec: str, out: Path = ROOT) -> StudyFile:
    """``NAME[:SCALE]`` or ``FILE.py[:SCALE]``.

    A name is that of a file in ``experiments/studies``, or of ``OUT/NAME/study.py``.
    Raises: ConfigError in one line for an unknown name or scale, and for whatever the
        file stumbles on.
    """
    parts = _SPEC.fullmatch(spec)
    name, scale = parts["name"], parts["scale"] or "cpu"
    path = Path(name).expanduser() if name.endswith(".py") else None
    if path and not path.is_file():
        near = nearest(name, map(str, path.parent.glob("*.py")))
        raise ConfigError(f"study {name!r}: no such file{near}")
    module = _own(name, path) if path else _named(name, out)
    study = _get(name, module, scale)
    question, *rest = _paragraphs(module)
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
    command = _written_for(module, study, question)
    name = Path(name).stem if path else name
    return StudyFile(name, scale, question, source, study, path, command)


def path_of(name: str, out: Path) -> Path:
    """The file of a study of the user's own that has a name."""
    return Path(out).expanduser() / name / "study.py"


def shipped() -> list[str]:
    """Names of the studies of ``experiments/studies``."""
    package = importlib.import_module(PACKAGE)
    return [module.name for module in pkgutil.iter_modules(package.__path__)]


def listing(out: Path = ROOT) -> Iterator[str]:
    """What there is to ask for: names, questions and scales, a line each."""
    names = _names(out)
    wide = max(map(len, names)) + 2
    for name in names:
        try:
            module = _named(name, out)
            said = " ".join(_paragraphs(module)[0].split())
            if scales := _scales(name, module):
                said += f" ({', '.join(scales)})"
        except ConfigError as error:
            said = str(error)
        yield f"{name:{wide}}{said}"


def _names(out):
    """Those of the studies that are shipped, then those of the user's own."""
    own = {path.parent.name for path in Path(out).expanduser().glob("*/study.py")}
    return shipped() + sorted(own - {*shipped()})


def _paragraphs(module):
    return inspect.cleandoc(module.__doc__ or "").split("\n\n")


def _named(name: str, out: Path) -> ModuleType:
    ours = shipped()
    if name in ours:
        module = importlib.import_module(f"{PACKAGE}.{name}")
        package = importlib.import_module(PACKAGE)
        module.SCALES = getattr(module, "SCALES", package.SCALES)
        return module
    if name and path_of(name, out).is_file():
        return _own(name, path_of(name, out))
    names = _names(out)
    raise ConfigError(
        f"study {name!r}: no such study; choose from ({', '.join(names)})"
        f"{nearest(name, [*names, *map(str, Path().glob('*.py'))])}"
    )


class _Fresh(importlib.machinery.SourceFileLoader):
    """Leaves no bytecode: a file rewritten within a second would be read from it."""

    def set_data(self, *args: Any, **options: Any) -> None:
        pass


def _own(name: str, path: Path) -> ModuleType:
    path = path.absolute()  # so are the frames of its errors
    loader = _Fresh(path.stem, str(path))
    place = importlib.util.spec_from_file_location(path.stem, path, loader=loader)
    module = importlib.util.module_from_spec(place)
    try:
        place.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise ConfigError(f"study {name!r}: {_reason(error, path)}") from error
    return module


def _scales(name, module):
    scales = getattr(module, "SCALES", ())
    if isinstance(scales, tuple | list) and all(isinstance(s, str) for s in scales):
        return scales
    raise ConfigError(f"study {name!r}: SCALES={scales!r} must be a tuple of names")


def _get(name, module, scale):
    if not hasattr(module, "get_study"):
        raise ConfigError(f"study {name!r}: the file defines no get_study(scale)")
    scales = _scales(name, module)
    choices = f"choose from ({', '.join(scales)})" if scales else "see its get_study"
    unknown = (
        f"study {name!r} has no scale {scale!r}; {choices}{nearest(scale, scales)}"
    )
    if scales and scale not in scales:
        raise ConfigError(unknown)
    try:
        study = module.get_study(scale)
    except (Exception, SystemExit) as error:
        reason = _reason(error, Path(module.__file__))
        message = unknown if error.args == (scale,) else f"study {name!r}: {reason}"
        raise ConfigError(message) from error
    if not isinstance(study, Study):
        raise ConfigError(f"study {name!r}: get_study({scale!r}) returned no Study")
    return study


def _written_for(module, study, question):
    text = Path(module.__file__).read_text("utf-8")
    command = study_text.command_of(text)
    return command if study_text.write(study, question, command) == text else ""


def _reason(error, path):
    """What is wrong, and in which line of the file."""
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}: {error.msg}"
    if type(error) is ValueError:  # what ``Study`` says
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f.lineno for f in frames if Path(f.filename) == Path(path)]
    where = f"line {lines[-1]}: " if lines else ""
    field = re.search(r"Study.*unexpected keyword argument '(\w+)'", str(error))
    fields = inspect.signature(Study).parameters if field else ()
    near = field and (nearest(field[1], fields) or f"; it has {', '.join(fields)}")
    return f"{where}{type(error).__name__}: {error}{near or ''}"
