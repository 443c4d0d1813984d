"""Image files of every kind that people have, made here."""

import io
import struct
import warnings
import zlib

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from tfm_jax.data.sources.images.decoding import BrokenImage, pixels, strictly

RAMP = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5  # [height, width] of grey


def file(image, kind="PNG", **options):
    """The bytes of an image."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def rgb(size=(8, 6), color=(200, 100, 50)):
    return Image.new("RGB", size, color)


def test_a_png_gives_its_pixels_back():
    np.testing.assert_array_equal(pixels(file(Image.fromarray(RAMP)))[..., 0], RAMP)
    colored = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    np.testing.assert_array_equal(pixels(file(Image.fromarray(colored))), colored)
    np.testing.assert_array_equal(pixels(colored), colored)
    np.testing.assert_array_equal(pixels(Image.fromarray(colored)), colored)
    np.testing.assert_array_equal(pixels(jnp.asarray(colored)), colored)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_stands_upright_whatever_its_exif_orientation(orientation):
    """A camera stores what it sees turned or mirrored, and says so."""
    transpose = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,  # the inverse of what has to be done
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    image = Image.fromarray(RAMP)
    stored = image.transpose(transpose[orientation]) if orientation > 1 else image
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(pixels(file(stored, exif=exif))[..., 0], RAMP)


@pytest.mark.parametrize("damage", [(b"\1\x0f", b"\1\0"), (b"*", b""), (b"M", b"")])
def test_a_photograph_with_damaged_exif_is_read(damage):
    """Its maker where its width belongs; or a head that is none: as it is stored."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 3, "Canon"
    data = file(Image.fromarray(RAMP), exif=exif.tobytes().replace(*damage))
    with strictly():
        wanted = RAMP[::-1, ::-1] if damage[1] else RAMP
        np.testing.assert_array_equal(pixels(data)[..., 0], wanted)


def test_what_shows_through_is_white():
    clear = Image.new("RGBA", (2, 2), (255, 0, 0, 0))
    assert (pixels(file(clear)) == 255).all()
    half = Image.new("RGBA", (2, 2), (255, 0, 0, 128))
    assert np.abs(pixels(file(half))[0, 0].astype(int) - [255, 127, 127]).max() <= 1
    grey = pixels(file(Image.new("LA", (2, 2), (0, 0))))
    assert grey.shape == (2, 2, 1) and (grey == 255).all()
    palette = Image.new("P", (2, 2), 0)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    assert (pixels(file(palette, transparency=0)) == 255).all()
    assert (pixels(file(palette)) == 0).all()


def test_16_bits_of_grey_keep_their_range():
    deep = np.array([[0, 256, 32_768, 65_535]], np.uint16)
    assert pixels(file(Image.fromarray(deep))).ravel().tolist() == [0, 1, 128, 255]


def test_cmyk_and_one_bit_become_what_they_look_like():
    cmyk = pixels(file(rgb().convert("CMYK"), "JPEG", quality=95))
    assert np.abs(cmyk.astype(int) - [200, 100, 50]).max() < 8
    bits = Image.fromarray(RAMP > 100)
    np.testing.assert_array_equal(pixels(file(bits))[..., 0], (RAMP > 100) * 255)


def test_grey_and_colour_convert_into_each_other():
    assert pixels(file(rgb()), color="grey").shape == (6, 8, 1)
    grey = pixels(file(Image.fromarray(RAMP)), color="rgb")
    np.testing.assert_array_equal(grey, np.stack([RAMP] * 3, -1))
    np.testing.assert_array_equal(pixels(RAMP, color="rgb"), grey)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_an_array_keeps_its_channels_whatever_its_size(channels):
    """Each resized as an image of its own, as Pillow does; of 4 none is its opacity."""
    array = np.random.default_rng(0).integers(0, 256, (6, 8, channels), np.uint8)
    assert pixels(array, (6, 8)) is array
    half = pixels(array, (3, 4))
    for channel in range(channels):
        plane = Image.fromarray(np.ascontiguousarray(array[..., channel]))
        wanted = plane.resize((4, 3), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(half[..., channel], wanted)
    if channels == 3:
        whole = Image.fromarray(array).resize((4, 3), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(half, whole)


def test_the_middle_is_cropped_or_all_is_stretched():
    wide = np.zeros((4, 12), np.uint8)
    wide[:, 4:8] = 255  # white in the middle, black beside it
    assert (pixels(wide, (4, 4)) == 255).all()
    stretched = pixels(wide, (4,), fit="stretch")[0, :, 0].astype(int)
    assert stretched[0] < 100 < stretched[1] and stretched[3] < 100 < stretched[2]
    assert pixels(file(rgb((40, 30))), (6, 8)).shape == (6, 8, 3)


def bomb():
    """A PNG of 400 million pixels in 60 bytes."""

    def chunk(kind, data):
        code = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", code)

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8))
JPEG, PNG = file(NOISE, "JPEG"), file(NOISE)
BROKEN = {
    "empty": b"",
    "text": b"<html>404</html>",
    "half a JPEG": JPEG[: len(JPEG) // 2],
    "half a PNG": PNG[: len(PNG) // 2],
    "another format": file(rgb(), "GIF"),
    "too many pixels": bomb(),
    "too many in one dimension": np.zeros((2, 2, 2, 3), np.uint8),
    "no pixels": np.zeros((0, 8), np.uint8),
    "floats": np.zeros((2, 2), np.float32),
    "nothing": None,
    "a list of images": [NOISE],
    "floats of Pillow": Image.fromarray(np.zeros((2, 2), np.float32)),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_image_is_said_in_one_line(name):
    with strictly(), pytest.raises(BrokenImage) as error:
        pixels(BROKEN[name], (8, 8))
    assert str(error.value) and "\n" not in str(error.value)
    assert " object at 0x" not in str(error.value)


def test_a_photograph_of_suspicious_size_is_no_image_and_no_warning(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)
    with strictly(), pytest.raises(BrokenImage, match="decompression bomb"):
        pixels(file(rgb()))  # 48, less than twice as many
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with strictly(), pytest.raises(BrokenImage):
            pixels(file(rgb((10, 10))))
