"""Safe decoding of images from unknown sources."""

from zebra.errors import BadSample
from zebra.images.formats import media_type

ALLOWED_MEDIA_TYPES = ("image/jpeg", "image/png", "image/webp", "image/gif")
"""Formats that are decoded, and that a browser may show; other files are only offered for download."""
MAX_JPEG_SCANS = 100
"""Each scan costs a pass over all pixels; a progressive JPEG has about ten."""


def require_allowed(data: bytes, where: str) -> None:
    """Reject images of other formats, and JPEGs that take long to decode for their size.

    Raises:
        BadSample: not an allowed format, or too many scans.
    """
    type = media_type(data)
    if type not in ALLOWED_MEDIA_TYPES:
        raise BadSample("not an allowed format", where, "send a JPEG, PNG, WebP or GIF")
    num_scans = data.count(b"\xff\xda")  # inside a scan, a byte FF is always followed by 00 or a restart marker
    if type == "image/jpeg" and num_scans > MAX_JPEG_SCANS:
        raise BadSample("too many scans", where, f"{num_scans}, more than {MAX_JPEG_SCANS}")
