"""Thumbnails of the images of a dataset or a store."""

from PIL import Image, ImageDraw

from zebra.data.sources import Source
from zebra.errors import BadSample
from zebra.images.decode import decode_image
from zebra.report.style import FAINT, MUTED

THUMBNAIL_SIDE = 128
"""Maximum width and height, in pixels."""
MISSING_IMAGE_LINES = ("the image has", "moved or changed")


def load_thumbnail(source: Source, index: int) -> Image.Image:
    """Read and decode a sample of a source, and shrink it to a thumbnail; raise BadSample if that is impossible."""
    record = source.read(index)
    image = decode_image(record.image, record.id)
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    return image


def open_thumbnail(data: bytes | None, side: int = THUMBNAIL_SIDE) -> Image.Image:
    """Decode the thumbnail of a store; draw a placeholder if there is none, or if it is no image.

    Args:
        side: Width of a placeholder in pixels.
    """
    try:
        if data:
            return decode_image(data, "a thumbnail")
    except BadSample:  # a stored thumbnail may be any bytes
        pass
    size = (side, side * 3 // 4)
    image = Image.new("RGB", size, FAINT)
    center = (size[0] // 2, size[1] // 2)
    ImageDraw.Draw(image).multiline_text(
        center, "\n".join(MISSING_IMAGE_LINES), fill=MUTED, anchor="mm", align="center"
    )
    return image
