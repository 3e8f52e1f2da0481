"""Check of downloaded bytes by their signature, and resizing."""

from dataclasses import dataclass
from hashlib import sha256

from zebra.config.fetch import FetchConfig
from zebra.curate.fetch.outcome import FetchFailure
from zebra.errors import BadSample
from zebra.images.decode import read_header
from zebra.images.formats import UNKNOWN_MEDIA_TYPE, media_type

NUM_SIGNATURE_BYTES = 16
"""Bytes that decide whether a body can be an image; nothing more of another body is read."""


@dataclass(frozen=True, slots=True)
class ImageBytes:
    """An encoded image, and what the server sent."""

    data: bytes
    sha256: bytes
    source_sha256: bytes


def require_image_signature(start: bytes, content_type: str) -> None:
    """Check the first bytes of a body, whatever its declared type.

    Raises:
        FetchFailure: They are not those of a JPEG, PNG, WebP, GIF or BMP.
    """
    if media_type(start) != UNKNOWN_MEDIA_TYPE:
        return
    if (
        start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<")
        and b"svg" not in start.lower() + content_type.lower().encode()
    ):
        raise FetchFailure("permanent", "web page instead of an image", f"Content-Type {content_type[:80]!r}")
    reason = "not an image" if start else "empty body"
    raise FetchFailure(
        "permanent", reason, f"starts with {start[:NUM_SIGNATURE_BYTES]!r}, Content-Type {content_type[:80]!r}"
    )


def prepare_image(data: bytes, url: str, config: FetchConfig) -> ImageBytes:
    """Return the bytes to store: as they are, without a look at the header, or of a smaller image.

    Raises:
        FetchFailure: The image cannot be resized; the reason is that of `zebra.images.decode.decode_image`.
    """
    source_sha256 = sha256(data).digest()
    if config.shorter_side is None:
        return ImageBytes(data, source_sha256, source_sha256)
    from zebra.images.shorter_side import resize_shorter_side  # imports torch

    try:
        if min(read_header(data, url, max_pixels=config.max_pixels).size) > config.shorter_side:
            data = resize_shorter_side(data, config.shorter_side, url, max_pixels=config.max_pixels)
    except BadSample as bad:
        raise FetchFailure("permanent", bad.reason, bad.detail) from bad
    return ImageBytes(data, sha256(data).digest(), source_sha256)
