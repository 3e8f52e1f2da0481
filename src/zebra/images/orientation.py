"""EXIF orientation: read it in bounded time, and turn images upright.

Reference: the rules of `PIL.Image.Image.getexif` and `PIL.ImageOps.exif_transpose`. Pillow unpacks every value of a
tag, which takes seconds for an orientation with a million values; this module reads only what an orientation can be.
"""

import re
import struct
from collections.abc import Mapping
from typing import Any

from PIL import Image

UPRIGHT = 1
_TRANSPOSE_METHODS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Orientation in EXIF → how to turn the image upright."""
_INFO_KEYS = ("exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp")
"""Keys of `Image.info` in which Pillow finds an orientation, in its order."""
_ORIENTATION_TAG = 0x0112
_INTEGER_FORMATS = {1: "B", 3: "H", 4: "I"}
"""TIFF types BYTE, SHORT and LONG → struct format of one value."""
_XMP_PATTERN = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')


def read_orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; UPRIGHT if it is missing, invalid or in damaged metadata."""
    if image.format == "JXL" and not getattr(image, "jpeg", False):  # the decoder has turned it
        return UPRIGHT
    orientation = None
    if exif := exif_bytes(image.info):
        orientation = _parse_exif(exif)
    if orientation is None:
        orientation = _parse_xmp(image.info.get("XML:com.adobe.xmp") or image.info.get("xmp") or b"")
    return orientation if orientation in _TRANSPOSE_METHODS else UPRIGHT


def apply_orientation(image: Image.Image) -> Image.Image:
    """Return the image upright and without its orientation; the same object if it is upright."""
    method = _TRANSPOSE_METHODS.get(read_orientation(image))
    if method is None:
        return image
    upright = image.transpose(method)
    for key in _INFO_KEYS:
        upright.info.pop(key, None)
    return upright


def exif_bytes(info: Mapping[Any, Any]) -> bytes:
    """Return the EXIF block of an image, a TIFF file; empty if it has none."""
    exif, profile = info.get("exif"), info.get("Raw profile type exif")
    if exif is None and isinstance(profile, str):  # ImageMagick's hex dump: kind, length and lines of digits
        try:
            exif = bytes.fromhex("".join(profile.split("\n")[3:]))
        except ValueError:
            return b""
    return exif if isinstance(exif, bytes) else b""


def _parse_exif(exif: bytes) -> int | None:
    """Return the orientation in the first directory of an EXIF block."""
    while exif.startswith(b"Exif\0\0"):
        exif = exif[6:]
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None or len(exif) < 8:
        return None
    (directory,) = struct.unpack_from(f"{order}I", exif, 4)
    if directory + 2 > len(exif):
        return None
    (num_entries,) = struct.unpack_from(f"{order}H", exif, directory)
    end = directory + 2 + 12 * min(num_entries, (len(exif) - directory - 2) // 12)
    for tag, type, count, value in struct.iter_unpack(f"{order}HHI4s", exif[directory + 2 : end]):
        if tag == _ORIENTATION_TAG and type in _INTEGER_FORMATS and count:
            return _first_value(exif, struct.Struct(order + _INTEGER_FORMATS[type]), count, value)
    return None


def _first_value(exif: bytes, number: struct.Struct, count: int, field: bytes) -> int | None:
    """Return the first value of a directory entry: more than 4 bytes are elsewhere, at the offset in the field."""
    if number.size * count > len(field):
        start = int.from_bytes(field, "little" if number.format.startswith("<") else "big")
        field = exif[start : start + number.size]
    return number.unpack_from(field)[0] if len(field) >= number.size else None


def _parse_xmp(xmp: str | bytes) -> int | None:
    match = _XMP_PATTERN.search(xmp.encode("utf-8", "replace") if isinstance(xmp, str) else xmp)
    return int(match[1]) if match else None
