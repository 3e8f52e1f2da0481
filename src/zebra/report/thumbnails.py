"""Thumbnails of the images of a dataset."""

from PIL import Image

from zebra.data.sources import Source
from zebra.images.decode import decode_image

THUMBNAIL_SIDE = 128
"""Maximum width and height, in pixels."""


def load_thumbnail(source: Source, index: int) -> Image.Image:
    """Read and decode a sample of a source, and shrink it to a thumbnail; raise BadSample if that is impossible."""
    record = source.read(index)
    image = decode_image(record.image, record.id)
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    return image
