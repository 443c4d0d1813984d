"""The TPU compiler, libtpu, on machines without TPUs: quiet, and looks for none."""

import importlib.util
import os
from pathlib import Path

WITHOUT_TPU = {  # what libtpu asks a machine with TPUs for
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "TPU_MIN_LOG_LEVEL": "3",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_STDERR_LOG_LEVEL": "3",
    "TPU_WORKER_HOSTNAMES": "localhost",
}


def has_tpu() -> bool:
    """Whether this machine has the device files of TPU chips."""
    files = [*Path("/dev").glob("accel[0-9]*"), *Path("/dev/vfio").glob("[0-9]*")]
    return bool(files)


def tell() -> None:
    """Says in the environment that there are no TPUs, where that is so.

    Else libtpu complains in every process. Called when the package is imported, so
    before anything of it brings JAX up.
    """
    if importlib.util.find_spec("libtpu") and not has_tpu():
        os.environ |= WITHOUT_TPU | os.environ
