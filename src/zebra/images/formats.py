"""Image formats by file suffix or first bytes, and digests of encoded images."""

from hashlib import sha256

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp")
"""Lower-case suffixes of the images that zebra reads."""
UNSUPPORTED_FORMATS = {
    ".heic": "HEIC",
    ".heif": "HEIF",
    ".hif": "HEIF",
    ".avif": "AVIF",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".jxl": "JPEG XL",
    ".jp2": "JPEG 2000",
    ".j2k": "JPEG 2000",
    ".svg": "SVG",
    ".ico": "ICO",
    ".psd": "PSD",
    ".tga": "TGA",
    ".exr": "OpenEXR",
    ".dng": "raw",
    ".cr2": "raw",
    ".cr3": "raw",
    ".nef": "raw",
    ".arw": "raw",
    ".orf": "raw",
    ".raf": "raw",
    ".rw2": "raw",
}
"""Lower-case suffix → name of an image format that zebra does not read."""

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
