"""Process settings that must be made before the first array exists."""

import ctypes
import logging
import os

import jax

from tfm_jax.data.cache import home, make_private
from tfm_jax.runs.process import peers

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


def prepare(cpu_devices: int = 0, processes: int = 1) -> None:
    """Compilation cache, devices, other processes, a malloc that keeps freed pages.

    Args:
        cpu_devices: devices to make of the host's cores where it has no accelerator;
            0: one per core, at most 8. One device per core trains faster than one
            device on all cores, since small matrix products do not split well.
        processes: of the run, on one host or several, see ``peers.join``.
    Raises: ConfigError if there are not so many.
    The cache is private to the user, or not used, which a warning says;
    JAX_COMPILATION_CACHE_DIR chooses another place.
    """
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        _keep_compiled(home("xla"))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    try:
        jax.config.update("jax_num_cpu_devices", cpu_devices or min(cores, 8))
    except RuntimeError:
        pass  # a backend is up already, in a notebook or a test: its devices stay
    if processes > 1 and not jax.distributed.is_initialized():
        peers.join(processes)
    _keep_freed_pages()


def _keep_compiled(directory):
    try:
        make_private(directory)
    except OSError as error:
        logging.warning("compiled programs are not kept: %s", error)
        return
    jax.config.update("jax_compilation_cache_dir", str(directory))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def peak_memory() -> int | None:
    """Bytes: the most that the first device held, or on a CPU this process so far."""
    statistics = jax.local_devices()[0].memory_stats()
    if statistics is not None:
        return statistics.get("peak_bytes_in_use")
    try:
        import resource
    except ImportError:
        return None  # not a Unix
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def return_freed_pages() -> None:
    """To the system, what malloc keeps of large arrays that were there for a while."""
    if trim := _glibc("malloc_trim"):
        trim(0)


def _keep_freed_pages():
    """XLA's CPU client frees and maps its buffers every step; let them be kept."""
    if mallopt := _glibc("mallopt"):
        mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)


def _glibc(function):
    """A function of malloc that other C libraries do not have; None there."""
    try:
        return getattr(ctypes.CDLL(None), function)
    except (AttributeError, OSError):
        return None
