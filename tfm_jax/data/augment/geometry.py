"""Crops, mirrored images and erased patches: functions of an image and its draws."""

import math

import numpy as np
from PIL import Image


def padded_crop(
    image: np.ndarray, padding: int, draw: np.random.Generator
) -> np.ndarray:
    """A crop of the image's own size, out of the image with black around it.

    Source: He et al. 2016, arXiv:1512.03385, section 4.2. Deviates: no.
    Args: image: [height, width, C] uint8. padding: pixels on every side.
    """
    height, width, channels = image.shape
    canvas = (height + 2 * padding, width + 2 * padding, channels)
    padded = np.zeros(canvas, np.uint8)
    padded[padding : padding + height, padding : padding + width] = image
    top, left = draw.integers(0, 2 * padding, 2, endpoint=True)
    return padded[top : top + height, left : left + width]


def resized_crop(
    image: np.ndarray, least_area: float, draw: np.random.Generator
) -> np.ndarray:
    """A rectangle of some share of the area and of some proportions, at full size.

    Source: Szegedy et al. 2015, arXiv:1409.4842, section 6: an area from 8 % on, and a
    ratio of the sides from 3/4 to 4/3, here drawn so that a ratio is as likely as its
    inverse. Deviates: sides that are longer than the image's are cut.
    Args: image: [height, width, C] uint8. least_area: a share.
    """
    height, width = image.shape[:2]
    area = draw.uniform(least_area, 1.0) * height * width
    ratio = math.exp(draw.uniform(math.log(3 / 4), math.log(4 / 3)))
    tall = min(max(round(math.sqrt(area / ratio)), 1), height)
    wide = min(max(round(math.sqrt(area * ratio)), 1), width)
    top = draw.integers(0, height - tall, endpoint=True)
    left = draw.integers(0, width - wide, endpoint=True)
    box = (int(left), int(top), int(left) + wide, int(top) + tall)
    planes = (
        Image.fromarray(plane).resize((width, height), Image.Resampling.BILINEAR, box)
        for plane in np.ascontiguousarray(np.moveaxis(image, -1, 0))
    )
    return np.stack([*map(np.asarray, planes)], axis=-1)


def mirrored(
    image: np.ndarray, probability: float, draw: np.random.Generator
) -> np.ndarray:
    """The image or, with ``probability``, its mirror image, left for right."""
    return image[:, ::-1] if draw.random() < probability else image


def erased(
    image: np.ndarray, probability: float, draw: np.random.Generator
) -> np.ndarray:
    """With ``probability``, noise in place of a rectangle.

    Source: Zhong et al. 2020, arXiv:1708.04896, algorithm 1: 2 % to 40 % of the area,
    a ratio of the sides from 0.3 to 1/0.3, values that are drawn for each pixel.
    Deviates: sides that do not fit are cut, there they are drawn again.
    """
    if draw.random() >= probability:
        return image
    height, width = image.shape[:2]
    area = draw.uniform(0.02, 0.4) * height * width
    ratio = draw.uniform(0.3, 1 / 0.3)
    tall = min(max(round(math.sqrt(area * ratio)), 1), height)
    wide = min(max(round(math.sqrt(area / ratio)), 1), width)
    top = draw.integers(0, height - tall, endpoint=True)
    left = draw.integers(0, width - wide, endpoint=True)
    image = image.copy()
    noise = draw.integers(0, 256, (tall, wide, image.shape[2]), np.uint8)
    image[top : top + tall, left : left + wide] = noise
    return image
