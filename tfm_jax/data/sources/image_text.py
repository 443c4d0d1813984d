"""Images and text: rendered scenes."""

import dataclasses
from collections.abc import Callable
from typing import Any

from tfm_jax.data.sources import scenes
from tfm_jax.data.sources.turns import ImageTexts
from tfm_jax.knobs import check_numbers, knob

_Scenes = scenes.Config  # its field hides the name


def _scenes(cfg, split):
    return scenes.load(cfg.scenes, split, cfg.shots)


SOURCES: dict[str, Callable] = {  # name -> load(cfg, split) -> (ImageTexts, report)
    "scenes": _scenes,
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Where images and text come from."""

    ROLE = "training"

    source: str = knob("scenes", "where they come from", choices=SOURCES)
    shots: int = knob(
        0, "turns of other images in front of the last one", low=0, high=1024
    )
    scenes: _Scenes = _Scenes()

    def __post_init__(self):
        check_numbers(self, "data")


def load_examples(
    cfg: Any, split: str, names: Any = None
) -> tuple[ImageTexts, dict[str, Any]]:
    """The examples of one split: (`ImageTexts`, report of what was read).

    Raises: DataError if the data is absent or malformed.
    """
    del names  # there are no labels
    examples, report = SOURCES[cfg.source](cfg, split)
    return examples, {"source": cfg.source, **report, "read": len(examples.examples)}
