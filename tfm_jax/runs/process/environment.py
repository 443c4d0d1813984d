"""Environment: what the numbers of a run may depend on besides its configuration."""

import hashlib
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "tfm_jax")
PACKAGE = Path(__file__).parents[2]


def describe() -> dict[str, str]:
    """Code, versions and machine, in words; what cannot be found out is "unknown"."""
    code = _git("rev-parse", "HEAD:./tfm_jax")
    checkout = code != "unknown"
    return {
        "code": code if checkout else f"files {_digest(_installed())}",
        "changes": _digest(_git("diff", "HEAD", "--", "tfm_jax") if checkout else ""),
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
        "machine": _processor(),
        "gpu": _gpu(),
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
    }


def _installed():
    """All of the package, where no checkout says which code it is."""
    return "".join(path.read_text("utf-8") for path in sorted(PACKAGE.rglob("*.py")))


def _git(*arguments):
    try:
        command = ["git", "-C", str(PACKAGE.parent), *arguments]
        ran = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return ran.stdout.strip()


def _digest(text):
    return hashlib.sha256(text.encode()).hexdigest()[:12] if text else "none"


def _version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _processor():
    cores = os.cpu_count()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()}, {cores} cores"
    names = [x.partition(":")[2].strip() for x in lines if x.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {cores} cores"


def _gpu():
    asked = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        ran = subprocess.run(asked, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "none"
    return "; ".join(sorted(set(ran.stdout.split("\n")) - {""}))
