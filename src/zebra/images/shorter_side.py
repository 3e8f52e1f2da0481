"""Smaller copies of encoded images, by their shorter side."""

import io

from PIL import Image

from zebra.images.jpeg import decode_scaled

JPEG_QUALITY = 95
CHROMA_SUBSAMPLING = "4:2:0"


def resize_shorter_side(data: bytes, side: int, location: str, *, max_pixels: int) -> bytes:
    """Return an upright RGB JPEG whose shorter side has `side` pixels.

    Args:
        location: Identifies the image in errors.

    Raises:
        BadSample: As in `zebra.images.decode.decode_image`.
    """
    pixels, _ = decode_scaled(data, location, side, lambda width, height: (0, 0, width, height), max_pixels=max_pixels)
    image = Image.fromarray(pixels)
    shorter = min(image.size)
    size = tuple(max(1, round(length * side / shorter)) for length in image.size)
    buffer = io.BytesIO()
    image.resize((size[0], size[1]), Image.Resampling.HAMMING).save(
        buffer, "JPEG", quality=JPEG_QUALITY, subsampling=CHROMA_SUBSAMPLING
    )
    return buffer.getvalue()
