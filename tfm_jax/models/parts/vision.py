"""The image encoder of a larger model: any Vision Transformer, without its head."""

import dataclasses

from tfm_jax.layers.arch import EXECUTION
from tfm_jax.models import vit


@dataclasses.dataclass(frozen=True)
class Vision(
    vit.Config,
    fixed=EXECUTION | dict(head="states", labels=1, representation_width=0),
):
    """The image encoder; defaults are those of ViT-B/16."""


TINY = dict(
    depth=2,
    width=48,
    heads=4,
    ffn_width=192,
    patch_size=(4,),
    image_size=(32,),
    activation="gelu_tanh",
)


def take(params: dict, before: vit.Config, now: vit.Config) -> dict:
    """Parameters of a Vision Transformer without its head, for images of ``now``."""
    resized = vit.for_size(params, before, now)
    return {path: x for path, x in resized.items() if path.startswith("encoder/")}
