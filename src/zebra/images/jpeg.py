"""An encoded picture and the crop that training wants of it in; pixels no finer than that crop needs out.

A JPEG stores frequencies, so it can be decoded at half, a quarter or an eighth of its size for less than the whole
would cost, and what follows has fewer pixels to shrink. The scales between (libjpeg-turbo has every eighth) are left
out: they have no SIMD code and take longer than the whole picture.
"""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from zebra.images.decode import MAX_PIXELS, read_header, read_orientation, read_pixels

CropBox: TypeAlias = tuple[int, int, int, int]
"""Left, top, right, bottom, in pixels."""

DOWNSCALE_FACTORS = (8, 4, 2)
"""How many times smaller a JPEG may be decoded, the best first."""


def decode_scaled(
    data: bytes,
    location: str,
    size: int,
    get_crop_box: Callable[[int, int], CropBox],
    *,
    max_pixels: int = MAX_PIXELS,
) -> tuple[NDArray[np.uint8], CropBox]:
    """Decode a picture for a crop that becomes `size` pixels wide and high.

    Only a JPEG whose crop stays at least that large is decoded smaller. Decoded whole, its pixels are those of
    `decode`, and so is the choice of what cannot be used: whatever simplejpeg does not take without a complaint goes
    to Pillow.

    Args:
        location: Names the picture in errors.
        get_crop_box: Width and height of the whole upright picture → the crop. It may be asked twice.
        max_pixels: As in `decode`.

    Returns:
        RGB uint8 [H, W, 3], and the crop in it, to the nearest pixel.

    Raises:
        BadSample: As in `decode`.
    """
    image = read_header(data, location, max_pixels=max_pixels)
    # MPO is what Pillow calls a JPEG with further pictures behind it; CMYK it converts by rules of its own.
    if image.format == "JPEG" and image.mode in ("RGB", "L") and read_orientation(image) == 1:
        box = get_crop_box(*image.size)
        shorter = min(box[2] - box[0], box[3] - box[1])
        factor = next((factor for factor in DOWNSCALE_FACTORS if factor * size <= shorter), 1)
        pixels = _decode_jpeg(data, image.size, factor)
        if pixels is not None:
            left, top, right, bottom = ((edge + factor // 2) // factor for edge in box)
            return pixels, (left, top, right, bottom)
    image = read_pixels(image, location)
    return np.asarray(image), get_crop_box(*image.size)


def _decode_jpeg(data: bytes, size: tuple[int, int], factor: int) -> NDArray[np.uint8] | None:
    """Decode all of a JPEG; None if libjpeg finds the least fault in it, such as an end that is missing."""
    width, height = (-(-length // factor) for length in size)
    try:
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            data, min_width=width, min_height=height, min_factor=factor, strict=True
        )
    except ValueError:
        return None
    return pixels if pixels.shape == (height, width, 3) else None
