"""Decoding: image files, images of Pillow and arrays -> pixels of one size and colour.

Files are set upright by their EXIF orientation, and what they show through is white.
"""

import contextlib
import io
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = ("PNG", "JPEG")
COLORS = {"native": "", "grey": "L", "rgb": "RGB"}  # name -> mode of Pillow
FITS = {  # name -> (image, (width, height)) -> image of that size
    "crop": lambda image, size: ImageOps.fit(image, size, Image.Resampling.BILINEAR),
    "stretch": lambda image, size: image.resize(size, Image.Resampling.BILINEAR),
}
_DEEP = ("I", "I;16", "I;16B", "I;16L", "I;16N")  # 16 bits of grey
_GREY = ("1", "L", "LA", "La", *_DEEP)
_ORIENTATION = 0x0112  # tag of EXIF
_TURNS = {  # its value -> what sets such an image upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class BrokenImage(ValueError):
    """What is no image, or not one that can be trained on; the message says why."""


@contextlib.contextmanager
def strictly() -> Iterator[None]:
    """Images of suspiciously many pixels are errors inside, other doubts are ignored.

    Warnings are of the whole process: one such context stands around all threads.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def pixels(
    item: Any, size: Sequence[int] = (), color: str = "native", fit: str = "crop"
) -> np.ndarray:
    """[height, width, C] uint8.

    Args:
        item: path or bytes of a file of FORMATS, image of Pillow, or array uint8 [H, W]
            or [H, W, C].
        size: (height, width), or both in one; (): as it is.
        color: key of COLORS; native: 1 channel if it is grey, else 3, and of arrays
            all that they have. fit: key of FITS.
    Raises: BrokenImage.
    """
    size = (size[0], size[-1]) if size else ()
    if hasattr(item, "__array__") and not isinstance(item, Image.Image):
        item = np.asarray(item)  # of JAX and others
    if not isinstance(item, np.ndarray):
        return _converted(_upright(item), size, color, fit)
    array = item[..., None] if item.ndim == 2 else item
    if array.dtype != np.uint8 or array.ndim != 3 or not array.size:
        raise BrokenImage(
            f"an array of {array.dtype} and shape {item.shape}, and not of uint8 and "
            "(height, width) or (height, width, channels), each at least 1"
        )
    channels = {"native": array.shape[2], "grey": 1, "rgb": 3}[color]
    if array.shape[:2] == (size or array.shape[:2]) and array.shape[2] == channels:
        return array
    if color == "native":
        planes = map(Image.fromarray, np.ascontiguousarray(np.moveaxis(array, -1, 0)))
        parts = [_converted(plane, size, color, fit) for plane in planes]
        return np.concatenate(parts, axis=-1)
    if array.shape[2] not in (1, 3, 4):
        raise BrokenImage(f"{array.shape[2]} channels, of which only 1, 3 or 4 convert")
    image = Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)
    return _converted(_upright(image), size, color, fit)


def _upright(item):
    """An image of Pillow, in mode L or RGB."""
    try:
        if isinstance(item, Image.Image):
            return _plain(_turned(item))
        if not isinstance(item, bytes | str | Path):
            raise BrokenImage(f"{type(item).__name__}, and no path, image or array")
        file = io.BytesIO(item) if isinstance(item, bytes) else Path(item)
        with Image.open(file, formats=FORMATS) as image:
            return _plain(_turned(image))
    except (FileNotFoundError, BrokenImage):
        raise
    except UnidentifiedImageError as error:  # whose words have no name for bytes
        raise BrokenImage(f"no file of {' or '.join(FORMATS)}") from error
    except (
        OSError,
        ValueError,
        SyntaxError,  # of damaged PNG files
        EOFError,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ) as error:
        raise BrokenImage(" ".join(str(error).split())) from error


def _turned(image):
    image.load()
    try:
        turn = _TURNS.get(image.getexif().get(_ORIENTATION))
    except Exception:  # of damaged EXIF, which viewers pass over, too
        turn = None
    return image if turn is None else image.transpose(turn)


def _plain(image):
    grey = image.mode in _GREY
    if image.mode in _DEEP:
        array = np.asarray(image).astype(np.int64)
        if array.max(initial=0) >= 2**16 or array.min(initial=0) < 0:
            raise BrokenImage("grey levels beyond 16 bits")
        image = Image.fromarray((array >> 8).astype(np.uint8))
    elif image.mode == "F":
        raise BrokenImage("floating-point pixels")
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(paper, image)
    return image.convert("L" if grey else "RGB")


def _converted(image, size, color, fit):
    if COLORS[color]:
        image = image.convert(COLORS[color])
    if size and image.size != size[::-1]:
        image = FITS[fit](image, size[::-1])
    array = np.asarray(image)
    return array[..., None] if array.ndim == 2 else array
