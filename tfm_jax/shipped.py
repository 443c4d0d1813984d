"""Files beside the package in a checkout, which an installed package holds."""

from pathlib import Path


def files(folder: str, ending: str) -> dict[str, Path]:
    """Name without ending -> file, of ``configs`` or ``notebooks``."""
    package = Path(__file__).parent
    inside = package / folder
    held = inside if inside.is_dir() else package.parent / folder
    return {path.stem: path for path in sorted(held.glob(f"*{ending}"))}
