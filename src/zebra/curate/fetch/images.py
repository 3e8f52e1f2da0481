"""Check of downloaded bytes by the header of the image, and resizing."""

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
class CheckedImage:
    """Bytes that are an image by their header."""

    data: bytes
    source_sha256: bytes
    sha256: bytes
    media_type: str
    width: int
    height: int


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


def check_image(data: bytes, url: str, config: FetchConfig) -> CheckedImage:
    """Return an image whose header is valid, smaller if the config says so.

    Raises:
        FetchFailure: The reason is that of `zebra.images.decode.decode_image`.
    """
    source_sha256 = digest = sha256(data).digest()
    try:
        image = read_header(data, url, max_pixels=config.max_pixels)
        if config.shorter_side is not None and min(image.size) > config.shorter_side:
            from zebra.images.shorter_side import resize_shorter_side  # imports torch

            data = resize_shorter_side(data, config.shorter_side, url, max_pixels=config.max_pixels)
            digest = sha256(data).digest()
            image = read_header(data, url)
    except BadSample as bad:
        raise FetchFailure("permanent", bad.reason, bad.detail) from bad
    return CheckedImage(data, source_sha256, digest, media_type(data), image.width, image.height)
