"""Every way a run can end has the code a scheduler needs."""

import errno

import pytest

from tfm_jax.config import ConfigError
from tfm_jax.data.errors import DataError
from tfm_jax.runs.process import exits


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (None, 0),
        (exits.AlreadyRunning("x"), 0),
        (DataError("x"), 65),
        (exits.CorruptCheckpoint("x"), 65),
        (exits.InfrastructureError("x"), 69),
        (OSError(errno.ENOSPC, "full"), 69),
        (OSError(errno.EROFS, "read-only"), 69),
        (PermissionError(errno.EACCES, "denied"), 69),
        (exits.Preempted("x"), 75),
        (ConfigError("x"), 78),
        (OSError(errno.ENAMETOOLONG, "too long"), 78),
        (IsADirectoryError(errno.EISDIR, "a folder"), 78),
        (exits.CheckpointMismatch("x"), 78),
        (exits.Diverged("x"), 79),
        (ValueError("x"), 1),
        (FileNotFoundError(errno.ENOENT, "none"), 1),
        (KeyboardInterrupt(), 1),
    ],
)
def test_each_ending_has_its_code(error, code):
    assert exits.exit_code(error) == code


def test_a_message_is_bounded_whatever_value_it_quotes():
    said = exits.one_line(ConfigError(f"model.norm='{'x' * 10**6}'; choose from (pre)"))
    assert said.startswith("model.norm=") and said.endswith("choose from (pre)")
    assert len(said) < 5_000
