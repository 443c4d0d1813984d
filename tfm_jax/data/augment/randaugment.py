"""RandAugment: a few operations, drawn for each image, all of one magnitude.

Source: Cubuk et al. 2020, arXiv:1909.13719; the operations are those of its section 3.1
and the ranges those of the released code, in Pillow.
Deviates: a larger magnitude is never a weaker change. In the released code solarize
undoes itself towards 10 and contrast, colour, brightness and sharpness are grown alone;
here they grow or shrink. Shifts are a share of the image, there pixels of 224.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

LEVELS = 10  # the magnitude at which an operation reaches the end of its range
_FILL = 128  # what comes in from outside


def _affine(matrix: Callable) -> Callable:
    def operation(image, level, sign):
        fill = _FILL if image.mode == "L" else (_FILL,) * 3
        how = Image.Transform.AFFINE, matrix(sign * level, *image.size)
        return image.transform(
            image.size, *how, Image.Resampling.BILINEAR, fillcolor=fill
        )

    return operation


def _rotated(image, level, sign):
    fill = _FILL if image.mode == "L" else (_FILL,) * 3
    how = Image.Resampling.BILINEAR
    return image.rotate(sign * 30 * level, how, fillcolor=fill)


def _enhanced(kind: Any) -> Callable:
    return lambda image, level, sign: kind(image).enhance(1 + sign * 0.9 * level)


# (image, level from 0 to 1, sign 1 or -1) -> image
OPERATIONS: dict[str, Callable] = {
    "identity": lambda image, level, sign: image,
    "autocontrast": lambda image, level, sign: ImageOps.autocontrast(image),
    "equalize": lambda image, level, sign: ImageOps.equalize(image),
    "rotate": _rotated,
    "solarize": lambda image, level, sign: ImageOps.solarize(
        image, round(256 * (1 - level))
    ),
    "color": _enhanced(ImageEnhance.Color),
    "posterize": lambda image, level, sign: ImageOps.posterize(
        image, 8 - round(4 * level)
    ),
    "contrast": _enhanced(ImageEnhance.Contrast),
    "brightness": _enhanced(ImageEnhance.Brightness),
    "sharpness": _enhanced(ImageEnhance.Sharpness),
    "shear_x": _affine(lambda x, width, height: (1, 0.3 * x, 0, 0, 1, 0)),
    "shear_y": _affine(lambda x, width, height: (1, 0, 0, 0.3 * x, 1, 0)),
    "translate_x": _affine(lambda x, width, height: (1, 0, 0.45 * x * width, 0, 1, 0)),
    "translate_y": _affine(lambda x, width, height: (1, 0, 0, 0, 1, 0.45 * x * height)),
}


def randaugment(
    image: np.ndarray, layers: int, magnitude: float, draw: np.random.Generator
) -> np.ndarray:
    """``layers`` operations one after the other, each drawn from all.

    Args: image: [height, width, C] uint8, C is 1 or 3. magnitude: of LEVELS.
    """
    grey = image.shape[-1] == 1
    changed = Image.fromarray(np.ascontiguousarray(image[..., 0] if grey else image))
    names = [*OPERATIONS]
    for _ in range(layers):
        name = names[draw.integers(len(names))]
        sign = 1 if draw.random() < 0.5 else -1
        changed = OPERATIONS[name](changed, magnitude / LEVELS, sign)
    return np.asarray(changed).reshape(image.shape)
