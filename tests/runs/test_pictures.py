"""Pictures of images: every pixel of each, and whose image it is."""

import numpy as np
import pytest

from tfm_jax.runs import pictures

RANDOM = np.random.default_rng(0)


def sheet_of(figure):
    """The pixels that a figure shows."""
    (axis,) = figure.axes
    return np.asarray(axis.images[0].get_array())


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
def test_images_of_any_number_of_channels_are_pictured(channels):
    pixels = RANDOM.integers(0, 256, (12, 4, 3, channels), np.uint8)
    sheet = sheet_of(pictures.images(pixels))
    assert sheet.shape == (2 * 5, 10 * 4, 3)
    shown = pixels if channels == 3 else np.repeat(pixels[..., :1], 3, axis=-1)
    for number, image in enumerate(shown):
        row, column = 5 * (number // 10) + 1, 4 * (number % 10) + 1
        np.testing.assert_array_equal(sheet[row : row + 4, column : column + 3], image)


def test_pictures_shrink_no_image_and_name_its_class():
    pixels = np.zeros((2, 200, 150, 3), np.uint8)
    figure = pictures.images(pixels, names=["$a", "b"])
    rows, columns, _ = sheet_of(figure).shape
    assert figure.bbox.height >= rows > 200 and figure.bbox.width >= columns > 300
    assert [text.get_text() for text in figure.axes[0].texts] == ["$a", "b"]
    with pytest.raises(ValueError, match="must be .n, height, width, channels"):
        pictures.images(pixels[0])
