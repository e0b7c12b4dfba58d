"""An image file becomes pixels as a viewer shows them: upright, 8 bits, RGB.

The only file that opens images from strangers: few formats, none of which runs a program.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from data_pipelines.frames import DecodeError

# PIL knows more; some of them start programs (EPS), none of them holds a photograph.
IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")

_MODES_WITH_ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")
_WHITE = (255, 255, 255, 255)
# What PIL raises for damaged files: one exception for each decoder's habits.
_PIL_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)
_TOO_LARGE = (Image.DecompressionBombError, Image.DecompressionBombWarning)


def read_image(path: str | Path) -> np.ndarray:
    """Reads an image file.

    The camera's rotation (EXIF) is applied; transparent pixels are laid on white; 16-bit grey keeps
    its upper 8 bits; palettes become colours. Of a file with several pictures the first is read.

    Args:
        path: a PNG, JPEG, WebP, BMP, GIF, TIFF or PPM file.

    Returns:
        (height, width, 3), uint8, RGB.

    Raises:
        FileNotFoundError: if there is no such file.
        DecodeError: if it is no image, is damaged, has pixels without an agreed range (floats), or
            has more pixels than PIL's limit, which keeps small files from filling the memory.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no image file {path}")
    return _read(path, str(path))


def decode_image(data: bytes, name: str) -> np.ndarray:
    """Reads an image held in memory, as `read_image` does; `name` is for error messages."""
    return _read(io.BytesIO(data), name)


def read_pixel_values(path: str | Path) -> np.ndarray:
    """Reads a PNG whose pixels are numbers, not colours: classes, objects, depths.

    Args:
        path: a PNG with a palette, or grey with at most 16 bits.

    Returns:
        (height, width), uint8 or uint16: the numbers as they are stored; of a palette the indices.

    Raises:
        FileNotFoundError: if there is no such file.
        DecodeError: if it is no PNG, is damaged, has colours, or has more pixels than PIL's limit.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no image file {path}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=("PNG",)) as image:
                if image.mode not in ("P", "L", "1") and not image.mode.startswith("I"):
                    raise ValueError(f"its pixels are colours ({image.mode}), not numbers")
                values = np.array(image)
    except UnidentifiedImageError:
        raise DecodeError(str(path), "not a PNG") from None
    except (*_TOO_LARGE, *_PIL_ERRORS) as error:
        raise DecodeError(str(path), f"its numbers cannot be read: {error}") from None
    return values.astype(np.uint16 if image.mode.startswith("I") else np.uint8)


def _read(file: Path | io.BytesIO, name: str) -> np.ndarray:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=IMAGE_FORMATS) as image:
                return np.array(_on_white(_eight_bits(ImageOps.exif_transpose(image))))
    except _TOO_LARGE:
        limit = f"{Image.MAX_IMAGE_PIXELS:,}" if Image.MAX_IMAGE_PIXELS else "as many as PIL allows"
        raise DecodeError(name, f"the image has more than {limit} pixels") from None
    except UnidentifiedImageError:
        known = ", ".join(IMAGE_FORMATS)
        raise DecodeError(name, f"not an image, or none of {known}") from None
    except _PIL_ERRORS as error:
        raise DecodeError(name, f"the image cannot be read: {error}") from None


def _eight_bits(image: Image.Image) -> Image.Image:
    """Returns grey images of 16 bits as 8 bits; others as they are.

    Raises:
        ValueError: if the range of the pixels is not known.
    """
    if image.mode == "F":
        raise ValueError("its pixels are floats, whose range nobody says")
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image)  # (height, width)
    if values.size and (values.min() < 0 or values.max() > 65535):
        raise ValueError(f"its pixels go from {values.min()} to {values.max()}, not 0 to 65535")
    return Image.fromarray((values >> 8).astype(np.uint8))


def _on_white(image: Image.Image) -> Image.Image:
    """Returns an image as RGB, what is transparent on white."""
    if image.mode not in _MODES_WITH_ALPHA and "transparency" not in image.info:
        return image.convert("RGB")
    picture = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", picture.size, _WHITE), picture).convert("RGB")
