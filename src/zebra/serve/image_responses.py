"""The id of a row in; its picture or thumbnail out, or what stands in for a picture that is gone."""

import io

from fastapi import Response
from PIL import Image, ImageDraw

from zebra.serve.errors import HTTPError
from zebra.serve.service import Service

SHOWN = ("image/jpeg", "image/png", "image/webp", "image/gif")
"""What browsers may show as it is; anything else is a file to be saved."""
SANDBOX_POLICY = "default-src 'none'; sandbox"


async def original_response(service: Service, id: str) -> Response:
    """Return the bytes of a picture as they lie on disk.

    Raises:
        Refusal: There is no such row (404), or its picture is gone from disk (410).
    """
    searcher = service.searcher
    picture = await service.read_pool(searcher.read_image, id)
    if picture is None:
        await _require_row(service, id)
        raise HTTPError(410, "this picture is no longer on disk, or another one is there in its place")
    media_type = picture.media_type if picture.media_type in SHOWN else "application/octet-stream"
    return Response(
        picture.data,
        media_type=media_type,
        headers={"Cache-Control": "private, max-age=3600", "Content-Security-Policy": SANDBOX_POLICY},
    )


async def thumbnail_response(service: Service, id: str, side: int) -> Response:
    """Return a small JPEG or WebP; of a picture that is gone, a placeholder with `X-Picture: missing`.

    Raises:
        Refusal: There is no such row (404).
    """
    data = await service.read_pool(service.searcher.read_thumbnail, id, side)
    if data is None:
        await _require_row(service, id)
        return Response(
            draw_placeholder(side),
            media_type="image/png",
            headers={"Cache-Control": "no-store", "X-Picture": "missing"},
        )
    media_type = "image/webp" if data[:4] == b"RIFF" else "image/jpeg"
    return Response(data, media_type=media_type, headers={"Cache-Control": "private, max-age=3600"})


def draw_placeholder(side: int) -> bytes:
    """Draw a crossed-out frame, on whatever lies beneath."""
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
        raise HTTPError(404, "the store has no picture with this id")
