"""What prepared data takes on the disk, and which large files are read again."""

import contextlib
import errno
import fcntl
import os
import re
import shutil

import pytest

from tests.data.test_cache import CONFIG, TOKENIZER, cached, entry_of
from tfm_jax.data import cache, digests, eviction
from tfm_jax.knobs import ConfigError


def test_large_files_are_read_again_once_they_changed(tmp_path, monkeypatch):
    read, path = [], tmp_path / "x"
    monkeypatch.setattr(digests, "LARGE", 10)
    digest = digests.digest
    monkeypatch.setattr(digests, "digest", lambda p: read.append(p) or digest(p))
    path.write_bytes(b"a" * 20)

    def asked():
        read.clear()
        known = digests.known_digest(path, tmp_path)
        assert known == digest(path)
        return len(read)

    assert asked() == asked() == 1  # it may change again at this time
    monkeypatch.setattr(digests, "_TICK", -1.0)
    assert asked() == 1
    assert asked() == 0
    monkeypatch.setenv(digests.ALWAYS, "1")
    assert asked() == 1
    monkeypatch.delenv(digests.ALWAYS)
    status = path.stat()
    path.write_bytes(b"a" * 19 + b"b")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert asked() == 1
    assert asked() == 0
    shutil.copy(path, tmp_path / "y")
    os.replace(tmp_path / "y", path)
    assert asked() == 1
    (note,) = tmp_path.glob("*.digest")
    for wrong in (b"", b"[]", b'{"version": 3}', b"\xff"):
        note.write_bytes(wrong)
        assert asked() == 1
    monkeypatch.setattr(digests, "_WEEK", 0)
    assert asked() == 1
    monkeypatch.setattr(digests.os, "replace", None)  # as if it were killed there
    with pytest.raises(TypeError):
        asked()
    assert all(path.suffix in ("", ".digest") for path in tmp_path.iterdir())


def test_entries_are_removed_where_only_what_may_be_written_is_locked(
    tmp_path, monkeypatch
):
    """As by the file systems NFS, which also may refuse a single file."""
    cached(CONFIG, TOKENIZER, tmp_path / "cache")
    os.close(eviction._pinned.pop(entry_of(tmp_path / "cache")))
    flock, refused = fcntl.flock, tmp_path / "cache" / "refused.lock"
    refused.touch()
    os.utime(refused, (0, 0))

    def of_nfs(file, operation):
        mode = fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE
        if operation & fcntl.LOCK_EX and mode == os.O_RDONLY:
            raise OSError(errno.EBADF, "bad file descriptor")
        if os.path.samestat(os.fstat(file.fileno()), refused.stat()):
            raise OSError(errno.ENOLCK, "no locks available")
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", of_nfs)
    monkeypatch.setenv(eviction.GIGABYTES, "0")
    eviction.evict(tmp_path / "cache", "SHA256SUMS")
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]


def test_a_lock_that_is_removed_before_it_is_held_is_taken_anew(tmp_path, monkeypatch):
    path, flock, calls = tmp_path / "x.lock", fcntl.flock, []

    def late(file, operation):
        if not calls:
            path.unlink()
        calls.append(operation)
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with eviction.locked(path), eviction._unlocked(path) as free:
        assert calls[:2] == [fcntl.LOCK_EX] * 2 and path.exists() and not free


def test_an_old_lock_is_removed_unless_somebody_holds_it(tmp_path):
    path = tmp_path / "x.lock"
    for held in (True, False):
        with eviction.locked(path) if held else contextlib.nullcontext():
            os.utime(path, (0, 0))
            eviction.evict(tmp_path, "SHA256SUMS")
            assert path.exists() == held


@pytest.mark.parametrize("said", ["32GB", "nan", "inf", "-1", ""])
def test_a_wrong_size_of_the_cache_is_said_before_anything_is_prepared(
    tmp_path, monkeypatch, said
):
    monkeypatch.setenv(eviction.GIGABYTES, said)
    monkeypatch.setattr(cache, "prepare", lambda *args, **options: 1 / 0)
    wanted = f"TFM_JAX_CACHE_GB='{said}' must be a finite number, at least 0"
    with pytest.raises(ConfigError, match=re.escape(wanted)):
        cached(CONFIG, TOKENIZER, tmp_path / "cache")
