"""Encoded bytes in, a checked PIL image out; whatever cannot be used raises BadSample with a reason to count by."""

import io
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from zebra.errors import BadSample

DecodeMode = Literal["careful", "reference"]

IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
"""The only decoders handed bytes of unknown origin; Pillow's rarer ones are where its holes were found."""
MAX_PIXELS = 89_478_485
MIN_SIDE = 8
MAX_ASPECT_RATIO = 20

_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8", b"BM", b"RIFF")
_DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    struct.error,
    OverflowError,
)
"""What Pillow's decoders raise on damaged bytes, as found by fuzzing; SyntaxError is a broken PNG chunk."""
_ORIENTATION_TAG = 0x0112
_ORIENTATION_KEYS = frozenset({"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"})
"""Where Pillow finds an orientation."""


def decode_image(
    data: bytes, location: str, *, mode: DecodeMode = "careful", max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """Decode the first frame of a JPEG, PNG, WebP, GIF or BMP.

    Args:
        location: Names the picture in errors.
        mode: careful turns the picture upright by its EXIF tag, lays transparency on white, scales 16-bit gray
            to 8 bits and returns RGB. reference does none of it and returns the picture in its own mode, since
            the published CLIP preprocessing resizes before it converts (see `Preprocess.pixels`).
        max_pixels: Largest width × height, checked before any pixel is decoded. Pillow's own ceiling of
            178,956,970 holds beside it.

    Raises:
        BadSample: empty file, not an image, truncated image, damaged image, too many pixels, or too thin
            (a side under 8 pixels, or longer than 20 times the other).
    """
    image = read_header(data, location, max_pixels=max_pixels)
    return read_pixels(image, location, mode=mode)


def read_header(data: bytes, location: str, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Return the picture without its pixels, once format and size are found good; errors as in `decode`."""
    if not data:
        raise BadSample("empty file", location, "0 bytes")
    with _suppress_warnings():
        image = _open_image(data, location)
    _check_size(image.size, location, max_pixels)
    return image


def read_pixels(image: Image.Image, location: str, *, mode: DecodeMode = "careful") -> Image.Image:
    """Decode what `read_header` returned; errors as in `decode`."""
    with _suppress_warnings():
        try:
            image.load()
            return image if mode == "reference" else _to_rgb(_apply_orientation(image))
        except _DECODE_ERRORS as error:
            reason = "truncated image" if "truncated" in str(error).lower() else "damaged image"
            raise BadSample(reason, location, str(error)) from error


def read_orientation(image: Image.Image) -> int:
    """Return the EXIF tag that says how the picture lies: 1 if it is upright, or does not say."""
    if _ORIENTATION_KEYS.isdisjoint(
        image.info
    ):  # most pictures; asking costs a third of decoding a small one
        return 1
    try:
        with _suppress_warnings():
            return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except _DECODE_ERRORS:  # broken metadata around a good picture: leave it as it lies
        return 1


def convert_to_rgb(image: Image.Image) -> Image.Image:
    """Convert a picture of any mode to RGB, laying transparency on white."""
    if "transparency" in image.info or "A" in image.getbands():
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


@contextmanager
def _suppress_warnings() -> Iterator[None]:
    """Warnings about odd metadata are no news to a training run, and pixels are counted here.

    Filters belong to the whole process: with several threads decoding, one may slip through.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _open_image(data: bytes, location: str) -> Image.Image:
    """Read the header alone."""
    try:
        return Image.open(io.BytesIO(data), formats=IMAGE_FORMATS)
    except Image.DecompressionBombError as error:
        raise BadSample("too many pixels", location, str(error)) from error
    except UnidentifiedImageError as error:
        reason = "damaged image" if data.startswith(_SIGNATURES) else "not an image"
        formats = ", ".join(IMAGE_FORMATS)
        raise BadSample(
            reason, location, f"{len(data)} bytes, starting {data[:16]!r}; readable: {formats}"
        ) from error
    except _DECODE_ERRORS as error:
        raise BadSample("damaged image", location, str(error)) from error


def _check_size(size: tuple[int, int], location: str, max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise BadSample("too many pixels", location, f"{width} × {height}, more than {max_pixels:,}")
    short, long = sorted(size)
    if short < MIN_SIDE or long > MAX_ASPECT_RATIO * short:
        raise BadSample("too thin", location, f"{width} × {height}")


def _apply_orientation(image: Image.Image) -> Image.Image:
    try:
        return image if read_orientation(image) == 1 else ImageOps.exif_transpose(image)
    except _DECODE_ERRORS:  # as in `orientation`
        return image


def _to_rgb(image: Image.Image) -> Image.Image:
    return _convert_16_bit(image) if image.mode.startswith("I") else convert_to_rgb(image)


def _convert_16_bit(image: Image.Image) -> Image.Image:
    """Scale 0…65535 to 0…255; Pillow's own conversion clips nearly everything to white."""
    gray = np.asarray(image).astype(np.int64).clip(0, 65535)
    scaled = ((gray * 255 + 32767) // 65535).astype(np.uint8)
    transparent = image.info.get("transparency")
    if transparent is not None:
        scaled[gray == transparent] = 255
    return Image.fromarray(scaled).convert("RGB")
