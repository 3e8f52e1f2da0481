"""Encoded pictures of unknown origin in, the input of a model out; what is not allowed is never decoded."""

from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from zebra.embed.stages import ImagePreprocessor
from zebra.errors import BadSample

SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a")
"""How JPEG, PNG and GIF begin; WebP is a RIFF file."""
MAX_JPEG_SCANS = 100
"""Of a JPEG; each costs a pass over all its pixels, and a progressive one has about ten."""


def require_allowed(data: bytes, where: str) -> None:
    """Refuse what is not a JPEG, PNG, WebP or GIF, or would take long to decode for its size.

    Raises:
        BadSample: not an allowed format, or too many scans.
    """
    webp = data[:4] == b"RIFF" and data[8:12] == b"WEBP"
    if not webp and not data.startswith(SIGNATURES):
        raise BadSample("not an allowed format", where, "send a JPEG, PNG, WebP or GIF")
    scans = data.count(b"\xff\xda")  # inside a scan a byte FF is always followed by 00 or a restart
    if data.startswith(SIGNATURES[0]) and scans > MAX_JPEG_SCANS:
        raise BadSample("too many scans", where, f"{scans}, more than {MAX_JPEG_SCANS}")


def decode_pixels(data: bytes, where: str, preprocess: ImagePreprocessor) -> NDArray[np.uint8]:
    """Return the first frame as a model takes it, uint8 [3, H, W]; BadSample if it is refused."""
    require_allowed(data, where)
    return preprocess(data, where).pixels_3HW


def digest(data: bytes) -> str:
    """Name a picture by its bytes."""
    return sha256(data).hexdigest()
