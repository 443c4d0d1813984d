"""``requirements.lock``: what a run needs, each package pinned and with its hashes."""

import configparser
import importlib.metadata
import re
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
LOCK = (ROOT / "requirements.lock").read_text("utf-8")
LINUX = {"python_version": "3.11", "python_full_version": "3.11.0", "extra": ""}
LINUX |= {"sys_platform": "linux", "platform_machine": "x86_64", "os_name": "posix"}
LINUX |= {"platform_system": "Linux", "implementation_name": "cpython"}
LINUX |= {"platform_python_implementation": "CPython"}


def locked():
    """Name -> (version, hashes)."""
    lines = LOCK.replace("\\\n", " ").splitlines()
    found = {}
    for line in lines:
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        pinned, *hashes = line.split()
        name, _, version = pinned.partition("==")
        found[canonicalize_name(name)] = version, hashes
    return found


def required():
    """What ``setup.cfg`` wants at run time."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lines = setup["options"]["install_requires"].splitlines()
    return [Requirement(line) for line in lines if line]


def test_every_requirement_is_pinned_within_its_range():
    versions = locked()
    assert len(required()) > 20
    for requirement in required():
        version, _ = versions[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), requirement


def test_every_package_has_hashes_and_none_a_place_to_get_it_from():
    for name, (version, hashes) in locked().items():
        assert re.fullmatch(r"[\w.]+", version), name
        assert hashes, name
        for one in hashes:
            assert re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", one), name
    assert "://" not in LOCK and "index" not in LOCK and "find-links" not in LOCK


def test_what_packages_need_themselves_is_pinned_too():
    """Of those installed here: ``pip --require-hashes`` takes all or nothing."""
    versions = locked()
    for name, (version, _) in versions.items():
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if found.version != version:
            continue
        for line in found.requires or ():
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate(LINUX):
                pinned, _ = versions[canonicalize_name(needed.name)]
                assert needed.specifier.contains(pinned, prereleases=True), line
