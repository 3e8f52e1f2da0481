"""Responses with an original image or a thumbnail of a row."""

import io

from fastapi import Response
from PIL import Image, ImageDraw

from zebra.errors import DataError
from zebra.images.formats import UNKNOWN_MEDIA_TYPE, media_type
from zebra.serve.errors import HTTPError
from zebra.serve.image_limits import ALLOWED_MEDIA_TYPES
from zebra.serve.service import Service

SANDBOX_POLICY = "default-src 'none'; sandbox"
CACHE_HEADERS = {"Cache-Control": "private, max-age=3600"}


async def original_response(service: Service, id: str) -> Response:
    """Return the original image file of a row.

    Raises:
        HTTPError: The row does not exist (404), or its image file is missing or has changed (410).
    """
    await service.concurrency_limit.wait_for_readers()
    image = await service.read_pool(service.searcher.read_image, id)
    if image is None:
        await _require_row(service, id)
        raise HTTPError(410, "the image file is missing or has changed")
    return Response(
        image.data,
        media_type=image.media_type if image.media_type in ALLOWED_MEDIA_TYPES else UNKNOWN_MEDIA_TYPE,
        headers=CACHE_HEADERS | {"Content-Security-Policy": SANDBOX_POLICY},
    )


async def thumbnail_response(service: Service, id: str, side: int) -> Response:
    """Return a JPEG or WebP thumbnail; a placeholder with `X-Image: missing` if the image is missing.

    Raises:
        HTTPError: The row does not exist (404).
    """
    data = await _read_thumbnail(service, id, side)
    if data is None:
        await _require_row(service, id)
        return Response(
            draw_placeholder(side), media_type="image/png", headers={"Cache-Control": "no-store", "X-Image": "missing"}
        )
    return Response(data, media_type=media_type(data), headers=CACHE_HEADERS)


async def _read_thumbnail(service: Service, id: str, side: int) -> bytes | None:
    """Return a thumbnail; the worker resizes the original if the stored one is too small."""
    stored, original = await service.read_pool(service.searcher.read_thumbnail_source, id, side)
    if original is None:
        return stored
    try:
        return await service.encoder.resize_image(original, side)
    except DataError:  # the original is not an image
        return stored


def draw_placeholder(side: int) -> bytes:
    """Return a PNG of a crossed-out frame on a transparent background."""
    image = Image.new("LA", (side, side), (128, 0))
    draw = ImageDraw.Draw(image)
    box = (side // 4, side // 4, side - side // 4, side - side // 4)
    draw.rectangle(box, outline=(128, 128), width=max(1, side // 48))
    draw.line(box, fill=(128, 128), width=max(1, side // 48))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


async def _require_row(service: Service, id: str) -> None:
    if await service.read_pool(service.searcher.read_row, id) is None:
        raise HTTPError(404, "the store has no image with this id")
