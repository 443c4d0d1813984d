"""Snapshots of what every configuration resolves to: a changed default is a diff.

    python -m tests.make_snapshots    writes them anew, after a change on purpose

A file has the knobs of a configuration as it is without a size; of each size it has
what differs, or all if it is another model's.
"""

import functools
import json
import runpy
from pathlib import Path

from tfm_jax import config as configs
from tfm_jax.models import MODELS
from tfm_jax.settings.experiment import resolve

ROOT = Path(__file__).parents[1]
FOLDER = Path(__file__).with_name("golden_configs")
FILES = sorted(path.name for path in (ROOT / "configs").glob("*.py"))


def sizes(file: str) -> list[str]:
    """Names of the sizes of ``configs/FILE``."""
    own = runpy.run_path(str(ROOT / "configs" / file)).get("SIZES")
    return list(own or MODELS[load(file).model_name].sizes)


def load(file: str, size: str = ""):
    """``configs/FILE:SIZE``."""
    spec = str(ROOT / "configs" / file)
    return configs.load(f"{spec}:{size}" if size else spec)


@functools.cache
def resolved(file: str) -> dict[str, dict]:
    """Size, "" among them -> dotted knob -> value, as JSON has it."""
    whole = {size: resolve(load(file, size)).as_dict() for size in ("", *sizes(file))}
    return {size: knobs(config) for size, config in whole.items()}


def knobs(config) -> dict:
    """Dotted knob -> value, as JSON has it."""
    return dict(configs.flatten(json.loads(configs.to_json(config))))


def read(path: Path) -> dict[str, dict]:
    """What a snapshot says of each size, all knobs of it."""
    of_size = json.loads(path.read_text())
    usual = of_size[""]
    return {
        size: some if "model_name" in some else usual | some
        for size, some in of_size.items()
    }


def text(of_size: dict[str, dict]) -> str:
    """The snapshot; a knob a line."""
    usual, parts = of_size[""], []
    for size, some in of_size.items():
        if size and some["model_name"] == usual["model_name"]:
            some = {name: x for name, x in some.items() if usual[name] != x}
        lines = [f"  {json.dumps(n)}: {json.dumps(x)}" for n, x in sorted(some.items())]
        parts.append(f" {json.dumps(size)}: {{\n" + ",\n".join(lines) + "\n }")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def main(folder: Path = FOLDER) -> None:
    """Writes all of them."""
    written = {file: text(resolved(file)) for file in FILES}  # before any is deleted
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*.json"):
        path.unlink()
    for file, content in written.items():
        Path(folder, file).with_suffix(".json").write_text(content)


if __name__ == "__main__":
    main()
