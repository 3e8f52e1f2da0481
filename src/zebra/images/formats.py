"""Image formats by file suffix or first bytes, and digests of encoded images."""

from hashlib import sha256

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"),
    *(".heic", ".heif", ".hif", ".jxl"),
)
"""Lower-case suffixes of the images that zebra reads; those of the second line need a decoder of the extra formats."""
UNSUPPORTED_FORMATS = {
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
    b"II*\0": "image/tiff",
    b"MM\0*": "image/tiff",
    b"II+\0": "image/tiff",  # BigTIFF
    b"MM\0+": "image/tiff",
    b"\xff\n": "image/jxl",
    b"\0\0\0\x0cJXL \r\n\x87\n": "image/jxl",
}
"""Signature → media type, of formats whose files all begin alike."""
PILLOW_FORMATS = {
    "image/jpeg": "JPEG",
    "image/png": "PNG",
    "image/webp": "WEBP",
    "image/gif": "GIF",
    "image/bmp": "BMP",
    "image/tiff": "TIFF",
    "image/avif": "AVIF",
    "image/heic": "HEIF",
    "image/jxl": "JXL",
}
"""Media type → Pillow's name; other formats are never decoded, because most of Pillow's vulnerabilities were there."""
UNKNOWN_MEDIA_TYPE = "application/octet-stream"
_AVIF_BRANDS, _HEIF_BRANDS = (
    (b"avif", b"avis"),
    (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"),
)
"""First brands of files of the ISO base media format (ISO/IEC 14496-12)."""


def media_type(data: bytes) -> str:
    """Return the media type of an encoded image; UNKNOWN_MEDIA_TYPE for anything that zebra does not decode."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    if data[4:8] == b"ftyp":
        return _isobmff_type(data)
    return next((name for start, name in MEDIA_TYPES.items() if data.startswith(start)), UNKNOWN_MEDIA_TYPE)


def _isobmff_type(data: bytes) -> str:
    if data[8:12] in _AVIF_BRANDS:
        return "image/avif"
    if data[8:12] not in _HEIF_BRANDS:
        return UNKNOWN_MEDIA_TYPE
    other_brands = data[16 : min(int.from_bytes(data[:4]), 256)]
    return "image/avif" if data[8:12] in (b"mif1", b"msf1") and b"avif" in other_brands else "image/heic"


def image_digest(data: bytes) -> str:
    """Return the SHA-256 of encoded image bytes, as hex."""
    return sha256(data).hexdigest()
