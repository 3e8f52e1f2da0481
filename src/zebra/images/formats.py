"""Image formats by their first bytes, and the digest of an encoded image."""

from hashlib import sha256

MEDIA_TYPES = {
    b"\xff\xd8\xff": "image/jpeg",
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"GIF87a": "image/gif",
    b"GIF89a": "image/gif",
    b"BM": "image/bmp",
}
"""Signature → media type; WebP is not listed, because other RIFF files have the same first bytes."""
UNKNOWN_MEDIA_TYPE = "application/octet-stream"


def media_type(data: bytes) -> str:
    """Return the media type of an encoded image; UNKNOWN_MEDIA_TYPE for anything that zebra does not decode."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return next((name for start, name in MEDIA_TYPES.items() if data.startswith(start)), UNKNOWN_MEDIA_TYPE)


def image_digest(data: bytes) -> str:
    """Return the SHA-256 of encoded image bytes, as hex."""
    return sha256(data).hexdigest()
