"""Smaller copies of encoded images, by their shorter side."""

import numpy as np
import simplejpeg

from zebra.images.augment import crop_and_resize
from zebra.images.jpeg import decode_scaled

JPEG_QUALITY = 95


def resize_shorter_side(data: bytes, side: int, location: str, *, max_pixels: int) -> bytes:
    """Return an upright RGB JPEG (4:2:0) whose shorter side has `side` pixels, with bicubic resizing.

    Args:
        location: Identifies the image in errors.

    Raises:
        BadSample: As in `zebra.images.decode.decode_image`.
    """
    pixels, box = decode_scaled(
        data, location, side, lambda width, height: (0, 0, width, height), max_pixels=max_pixels
    )
    height, width, _ = pixels.shape
    scale = side / min(width, height)
    size = max(1, round(height * scale)), max(1, round(width * scale))
    resized_HW3 = crop_and_resize(pixels, box, size).permute(1, 2, 0).numpy()
    encoded: bytes = simplejpeg.encode_jpeg(
        np.ascontiguousarray(resized_HW3), quality=JPEG_QUALITY, colorspace="RGB", colorsubsampling="420"
    )
    return encoded
