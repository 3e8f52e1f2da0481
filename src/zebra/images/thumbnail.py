"""Thumbnails of encoded images."""

import io

from PIL import Image

from zebra.images.decode import read_header, read_pixels

JPEG_QUALITY = 80
DRAFT_FACTOR = 2
"""A JPEG is decoded at a reduced size that is at least this many times the thumbnail's."""


def resize_to_jpeg(data: bytes, max_side: int) -> bytes:
    """Return an upright JPEG with sides of at most `max_side` pixels; BadSample if the image cannot be decoded."""
    image = read_header(data, "an image")
    if image.format == "JPEG" and image.mode in ("RGB", "L"):  # takes less time and memory
        image.draft(image.mode, (DRAFT_FACTOR * max_side, DRAFT_FACTOR * max_side))
    image = read_pixels(image, "an image")
    image.thumbnail((max_side, max_side), Image.Resampling.BICUBIC, reducing_gap=2.0)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()
