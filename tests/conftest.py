"""Eight CPU devices, real data where it is present, programs compiled fast and kept."""

import atexit
import functools
import gc
import importlib
import os
import sys
from pathlib import Path

import hypothesis
import jax
import pytest
from jax._src.interpreters import mlir

from tests import shared_programs

ROOT = Path(__file__).resolve().parents[1]

# XLA's older emitters, and one module for LLVM: half the compile time of tiny programs.
COMPILE_FAST = (
    "--xla_cpu_use_fusion_emitters=false",
    "--xla_cpu_parallel_codegen_split_count=1",
)

# The same examples everywhere, and no time limit: machines are busy.
hypothesis.settings.register_profile("project", deadline=None, derandomize=True)
hypothesis.settings.load_profile("project")

# Where programs are written down before they are compiled, of one file of tests: a new
# one for each program takes a fifth of what a tiny one costs.
# Programs are traced by one thread at a time.
mlir.make_ir_context = functools.cache(mlir.make_ir_context)


def pytest_configure(config):
    # Before any test module is imported: a backend that has started keeps its devices.
    jax.config.update("jax_num_cpu_devices", 8)
    cache = config.cache.mkdir("jax_compilation_cache")
    jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    shared_programs.share()
    # A trace makes many objects, and compiled programs are a large heap: collections
    # that walk them are rare.
    gc.set_threshold(20_000, 10, 10)
    # Most programs are tiny and run once: LLVM would work longer on them than they do.
    # What XLA itself rewrites and fuses stays; child processes are to do the same.
    jax.config.update("jax_disable_most_optimizations", True)
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
    if jax.__version_info__ < (0, 11):  # an unknown flag would end the process
        flags = os.environ.get("XLA_FLAGS", "").split()
        os.environ["XLA_FLAGS"] = " ".join([*flags, *COMPILE_FAST])
    # child processes import what the first of them has compiled
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    os.environ["XDG_CACHE_HOME"] = str(config.cache.mkdir("prepared"))
    importlib.import_module("tfm_jax")  # else each process says it finds no TPU
    # lists the fonts there once, of which a process that needs seconds for it complains
    importlib.import_module("matplotlib.font_manager")
    jax.devices()  # started now, so that no run of a test asks for other ones
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False  # workers take files as sorted below


def pytest_collection_modifyitems(items):
    """Files with slow tests first, then long ones: none keeps one worker for last."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    sizes = {item.path: item.path.stat().st_size for item in items}
    items.sort(key=lambda item: (item.path not in slow, -sizes[item.path]))


def pytest_collection_finish():
    """What was imported and collected stays: no collection need walk it again."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    """One collection at the end; those that follow have nothing to walk.

    A worker that has told its results ends: to take apart all that it has compiled
    would take ten seconds.
    """
    gc.collect()
    gc.freeze()
    if hasattr(session.config, "workerinput"):
        atexit.register(os._exit, 0)  # before what was registered earlier


@pytest.fixture(scope="module", autouse=True)
def programs_of_others_are_forgotten():
    mlir.make_ir_context.cache_clear()


@pytest.fixture(scope="module")
def compiled_once():
    """Runs of one configuration share their compiled functions."""
    tiny = importlib.import_module("tests.reliability.tiny")  # once there are devices
    with tiny.compiled_once():
        yield


@pytest.fixture(scope="session")
def commands():
    """What starts processes that need not import anything: ``Commands``."""
    processes = importlib.import_module("tests.reliability.processes")
    of_kernels = "ipykernel.kernelapp", "pandas", "sklearn.datasets", "tfm_jax.notebook"
    with processes.Commands(*of_kernels) as commands:
        yield commands


@pytest.fixture(scope="session")
def data_dir():
    """Folder of real data sets, which are not part of the project."""
    folder = Path(os.environ.get("TFM_JAX_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data: TFM_JAX_DATA={folder} is not a folder")
    return folder
