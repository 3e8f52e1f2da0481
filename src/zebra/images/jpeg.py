"""Decode JPEGs at reduced size, for a crop that needs fewer pixels.

A JPEG stores frequencies, so decoding it at 1/2, 1/4 or 1/8 of its size takes less time, and the resize that follows
has fewer pixels. The other scales of libjpeg-turbo have no SIMD code and take longer than the full size.
"""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from zebra.images.decode import MAX_ASPECT_RATIO, MAX_PIXELS, read_header, read_pixels
from zebra.images.orientation import read_orientation

CropBox: TypeAlias = tuple[int, int, int, int]
"""Left, top, right, bottom, in pixels."""

DOWNSCALE_FACTORS = (8, 4, 2)
"""Supported downscale factors, the largest first."""


def decode_scaled(
    data: bytes,
    location: str,
    size: int | Callable[[int, int], int],
    get_crop_box: Callable[[int, int], CropBox],
    *,
    max_pixels: int = MAX_PIXELS,
    max_aspect_ratio: float = MAX_ASPECT_RATIO,
) -> tuple[NDArray[np.uint8], CropBox]:
    """Decode an image for a crop that is then resized.

    A JPEG is decoded smaller only if its crop keeps enough pixels. At full size, the pixels are those of
    `decode_image`. So are the errors: Pillow decodes anything that simplejpeg rejects.

    Args:
        location: Identifies the image in errors.
        size: Pixels that the shorter side of the crop must keep, or a function of the crop's full width and height that
            returns them.
        get_crop_box: Maps width and height of the upright full-size image to the crop. It may be called twice.
        max_pixels: As in `decode_image`.
        max_aspect_ratio: As there.

    Returns:
        RGB uint8 [H, W, 3], and the crop in it, rounded to pixels.

    Raises:
        BadSample: As in `decode_image`.
    """
    image = read_header(data, location, max_pixels=max_pixels, max_aspect_ratio=max_aspect_ratio)
    # Pillow decodes the rest: MPO is a JPEG with more than one image, and CMYK has conversion rules of its own.
    if image.format == "JPEG" and image.mode in ("RGB", "L") and read_orientation(image) == 1:
        box = get_crop_box(*image.size)
        sides = box[2] - box[0], box[3] - box[1]
        needed = size if isinstance(size, int) else size(*sides)
        factor = next((factor for factor in DOWNSCALE_FACTORS if factor * needed <= min(sides)), 1)
        pixels = _decode_jpeg(data, image.size, factor)
        if pixels is not None:
            left, top, right, bottom = ((edge + factor // 2) // factor for edge in box)
            return pixels, (left, top, right, bottom)
    image = read_pixels(image, location)
    return np.asarray(image), get_crop_box(*image.size)


def _decode_jpeg(data: bytes, size: tuple[int, int], factor: int) -> NDArray[np.uint8] | None:
    """Decode a JPEG; None if libjpeg reports any problem, such as a missing end."""
    width, height = (-(-length // factor) for length in size)
    try:
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            data, min_width=width, min_height=height, min_factor=factor, strict=True
        )
    except ValueError:
        return None
    return pixels if pixels.shape == (height, width, 3) else None
