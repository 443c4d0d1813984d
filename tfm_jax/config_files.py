"""Configuration files: by path, or by the name of one that comes along."""

import importlib.util
import inspect
import re
from pathlib import Path
from types import ModuleType

from ml_collections import ConfigDict

from tfm_jax import renamed, shipped
from tfm_jax.knobs import ConfigError, nearest

# what ml_collections says of a name that a locked config does not have
_LOCKED = re.compile(r'Key "(?P<knob>\w+)" does not exist .*since the config is locked')
_NAMED = re.compile(r"'(\w+)\\?': ")


def load(spec: str) -> ConfigDict:
    """``get_config`` of ``NAME[:size]`` or ``FILE.py[:size]``, with the size if given.

    The file is executed: it is the user's own code or ours, never one found beside
    data. ``configs/NAME.py`` is ours wherever there is no such file.

    Raises:
        ConfigError: for a missing file, one without ``get_config``, an unknown size.
    """
    file, _, size = spec.partition(":")
    module = _execute(spec, _find(spec, file))
    if not hasattr(module, "get_config"):
        raise ConfigError(f"--config={spec}: the file defines no get_config()")
    if size and not inspect.signature(module.get_config).parameters:
        raise ConfigError(f"--config={spec}: get_config() of {file} takes no size")
    try:
        config = module.get_config(*[size] if size else [])
    except (AttributeError, KeyError) as error:
        if locked := _LOCKED.search(str(error)):
            knob, there = locked["knob"], re.findall(_NAMED, str(error))
            raise ConfigError(
                f"--config={spec}: there is no knob {knob!r} to set in its section"
                f"{renamed.hint(knob, there) or nearest(knob, there)}"
            ) from error
        if error.args != (size,):
            raise
        sizes = _sizes(module)
        names = ", ".join(sizes)
        choices = f"; choose from ({names}){nearest(size, sizes)}" if names else ""
        raise ConfigError(
            f"--config={spec}: {file} has no size {size!r}{choices}"
        ) from error
    if not isinstance(config, ConfigDict):
        raise ConfigError(f"--config={spec}: get_config() returned no ConfigDict")
    return config.lock()


def is_run(spec: str) -> bool:
    """Whether it is the folder of a run, or of a checkpoint, and no name of ours."""
    there = bool(spec) and Path(spec, "config.json").is_file()
    return there and spec not in shipped.files("configs", ".py")


def _find(spec: str, file: str) -> Path:
    """The file that ``file`` is the path or the name of."""
    ours, path = shipped.files("configs", ".py"), Path(file)
    if file in ours:
        return ours[file]
    if path.is_file():
        return path
    if path.stem in ours and path == Path("configs", f"{path.stem}.py"):
        return ours[path.stem]
    if file and path.is_dir():
        lacks = "a run has no size" if file != spec else "no such file, and no run"
        raise ConfigError(f"--config={spec}: {lacks}; {file} is a folder")
    siblings = sorted(other.name for other in path.parent.glob("*.py"))
    hint = nearest(path.name, siblings)
    named = f"; names are ({', '.join(ours)}){nearest(path.stem, ours)}"
    raise ConfigError(f"--config={spec}: no such file{hint or named}")


def _execute(spec: str, path: Path) -> ModuleType:
    place = importlib.util.spec_from_file_location(f"config_{path.stem}", path)
    if place is None or place.loader is None:
        raise ConfigError(f"--config={spec}: not a Python file (.py)")
    module = importlib.util.module_from_spec(place)
    try:
        place.loader.exec_module(module)
    except SyntaxError as error:
        raise ConfigError(
            f"--config={spec}: line {error.lineno}: {error.msg}"
        ) from error
    return module


def _sizes(module):
    """Names of a config file's ``SIZES``, or of those of the model it imports."""
    tables = (getattr(m, "SIZES", ()) for m in (module, *vars(module).values()))
    return list(map(str, next(filter(None, tables), ())))
