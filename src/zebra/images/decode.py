"""Decode encoded images safely; unusable ones raise BadSample with a reason."""

import io
import math
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, cast

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from zebra.errors import BadSample
from zebra.images.decoders import INSTALL_COMMANDS, can_decode
from zebra.images.formats import PILLOW_FORMATS, UNKNOWN_MEDIA_TYPE, media_type
from zebra.images.header_limits import require_small_metadata
from zebra.images.jxl_header import read_jxl_size
from zebra.images.orientation import apply_orientation

DecodeMode = Literal["careful", "reference"]

MAX_PIXELS = 89_478_485
MIN_SIDE = 8
MAX_ASPECT_RATIO = 20

_NEW_SUBFILE_TYPE = 254
"""TIFF tag; 1 is a reduced copy of another image of the file."""
_DECODE_ERRORS = (
    *(OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, struct.error, OverflowError, RuntimeError),
)
"""Exceptions of the decoders for damaged bytes, found by fuzzing; SyntaxError is a broken PNG chunk, RuntimeError comes
from JPEG XL."""


def decode_image(
    data: bytes,
    location: str,
    *,
    mode: DecodeMode = "careful",
    max_pixels: int = MAX_PIXELS,
    max_aspect_ratio: float = MAX_ASPECT_RATIO,
) -> Image.Image:
    """Decode the first frame of a JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF or, with the extra formats, HEIC or JPEG XL.

    Args:
        location: Identifies the image in errors.
        mode: Both apply the EXIF orientation. careful also composites transparency on white, scales 16-bit gray to 8
            bits and returns RGB. reference keeps the image mode, because the published CLIP preprocessing resizes
            before it converts (see `Preprocess.resize_and_crop`).
        max_pixels: Maximum width × height, checked before decoding. Pillow's own limit of 178,956,970 also applies.
        max_aspect_ratio: Maximum ratio of the longer to the shorter side.

    Raises:
        BadSample: For an empty file, not an image, a truncated or damaged image, too many pixels, too much metadata,
            an image that is too thin (a side under 8 pixels, or a larger aspect ratio), a raw image, pixels that are
            floats, or a format whose decoder is not installed.
    """
    image = read_header(data, location, max_pixels=max_pixels, max_aspect_ratio=max_aspect_ratio)
    return read_pixels(image, location, mode=mode)


def read_header(
    data: bytes, location: str, *, max_pixels: int = MAX_PIXELS, max_aspect_ratio: float = MAX_ASPECT_RATIO
) -> Image.Image:
    """Open an image without decoding its pixels, and check format and size; errors as in `decode_image`."""
    if not data:
        raise BadSample("empty file", location, "0 bytes")
    require_small_metadata(data, location)
    with _suppress_warnings():
        image = _open_image(data, location, max_pixels)
    require_usable_size(image.size, location, max_pixels, max_aspect_ratio)
    return image


def read_pixels(image: Image.Image, location: str, *, mode: DecodeMode = "careful") -> Image.Image:
    """Decode the pixels of an image from `read_header`; errors as in `decode_image`."""
    with _suppress_warnings():
        try:
            image.load()
            upright = apply_orientation(image)
            return upright if mode == "reference" else _to_rgb(upright)
        except _DECODE_ERRORS as error:
            reason = "truncated image" if "truncated" in str(error).lower() else "damaged image"
            raise BadSample(reason, location, str(error)) from error


def convert_to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image of any mode to RGB, with transparency composited on white."""
    if "transparency" in image.info or "A" in image.getbands():
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


@contextmanager
def _suppress_warnings() -> Iterator[None]:
    """Suppress Pillow's warnings about metadata and image size; `require_usable_size` checks the size.

    Warning filters are per process, so with several decoding threads a warning may still appear.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _open_image(data: bytes, location: str, max_pixels: int) -> Image.Image:
    """Open an image without decoding its pixels."""
    type = media_type(data)
    if type == UNKNOWN_MEDIA_TYPE:
        formats = ", ".join(PILLOW_FORMATS.values())
        raise BadSample("not an image", location, f"{len(data)} bytes, starting {data[:16]!r}; readable: {formats}")
    name = PILLOW_FORMATS[type]
    if not can_decode(type):
        raise BadSample(f"no decoder for {name} ({INSTALL_COMMANDS[type]})", location)
    if type == "image/jxl":
        _require_jxl_size(data, location, max_pixels)
    try:
        image = Image.open(io.BytesIO(data), formats=(name,))
    except Image.DecompressionBombError as error:
        raise BadSample("too many pixels", location, str(error)) from error
    except UnidentifiedImageError as error:
        raise BadSample("damaged image", location, f"{len(data)} bytes, starting {data[:16]!r}") from error
    except _DECODE_ERRORS as error:
        raise BadSample("damaged image", location, str(error)) from error
    if type == "image/tiff":
        _require_plain_tiff(image, location)
    return image


def _require_jxl_size(data: bytes, location: str, max_pixels: int) -> None:
    """Check the size of a JPEG XL before it is opened, which decodes it."""
    size = read_jxl_size(data)
    if size is None:
        raise BadSample("damaged image", location, "no size in the header of a JPEG XL")
    require_usable_size(size, location, max_pixels, math.inf)


def _require_plain_tiff(image: Image.Image, location: str) -> None:
    """Reject what is stored as TIFF and is no finished image."""
    if image.mode == "F":
        raise BadSample("float pixels", location, "how they become gray levels is unknown; convert it to 8 or 16 bits")
    if cast(TiffImageFile, image).tag_v2.get(_NEW_SUBFILE_TYPE) == 1:  # raw formats begin with a small preview
        raise BadSample("raw image", location, "convert it to JPEG or TIFF")


def require_usable_size(
    size: tuple[int, int], location: str, max_pixels: int = MAX_PIXELS, max_aspect_ratio: float = MAX_ASPECT_RATIO
) -> None:
    """Raise BadSample for too many pixels or a too thin image; `size` is width and height."""
    width, height = size
    if width * height > max_pixels:
        raise BadSample("too many pixels", location, f"{width} × {height}, more than {max_pixels:,}")
    short, long = sorted(size)
    if short < MIN_SIDE or long > max_aspect_ratio * short:
        raise BadSample("too thin", location, f"{width} × {height}")


def _to_rgb(image: Image.Image) -> Image.Image:
    return _convert_16_bit(image) if image.mode.startswith("I") else convert_to_rgb(image)


def _convert_16_bit(image: Image.Image) -> Image.Image:
    """Scale 0…65535 to 0…255; Pillow's conversion clips nearly all values to white."""
    gray = np.asarray(image).astype(np.int64).clip(0, 65535)
    scaled = ((gray * 255 + 32767) // 65535).astype(np.uint8)
    transparent = image.info.get("transparency")
    if transparent is not None:
        scaled[gray == transparent] = 255
    return Image.fromarray(scaled).convert("RGB")
