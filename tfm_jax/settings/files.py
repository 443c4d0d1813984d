"""Places: the knobs of a configuration that name files and folders."""

from collections.abc import Mapping
from os.path import expanduser
from typing import Any

DATA_FILES = {  # what lies there is in the fingerprint of the data
    *("data.train_files", "data.valid_files", "data.test_files"),
    *("data.folder", "data.tfds_data_dir"),
}
STARTS = {"tokenizer.file", "init_from"}  # read before the first step alone
PLACES = DATA_FILES | STARTS


def at_home(value: Any) -> Any:
    """A path, or several, with ``~`` spelled out; all else as it is."""
    if isinstance(value, tuple | list):
        return tuple(map(at_home, value))
    return expanduser(value) if isinstance(value, str) else value


def with_homes(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested configuration whose files and folders have ``~`` spelled out."""
    return {
        name: with_homes(value, f"{prefix}{name}.")
        if isinstance(value, Mapping)
        else at_home(value)
        if prefix + name in PLACES
        else value
        for name, value in config.items()
    }
