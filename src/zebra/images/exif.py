"""EXIF date, camera and position of an image, read in bounded time.

Pillow unpacks every value of a tag; this module reads only what a value can be (`zebra.images.orientation`).
Reference: CIPA DC-008 (Exif 3.0), sections 4.6.4 to 4.6.7.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from PIL import Image

from zebra.images.orientation import exif_bytes

MAKE, MODEL, EXIF_DIRECTORY, GPS_DIRECTORY = 0x010F, 0x0110, 0x8769, 0x8825
DATE_ORIGINAL, DATE_DIGITIZED = 0x9003, 0x9004
LATITUDE_REF, LATITUDE, LONGITUDE_REF, LONGITUDE = 1, 2, 3, 4
MAX_VALUE_BYTES = 128
"""Limit of one value; a longer one is cut off."""
MAX_ENTRIES = 256
"""Limit of entries in a directory."""
_TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1}
"""TIFF types BYTE, ASCII, SHORT, LONG, RATIONAL and UNDEFINED → bytes."""


@dataclass(frozen=True, slots=True)
class ImageExif:
    """Values of the EXIF block; None if missing or invalid."""

    taken: datetime | None = None
    """Local time of the camera, in whole seconds, without a time zone."""
    camera: str | None = None
    """Make and model."""
    latitude: float | None = None
    """Degrees, positive in the north."""
    longitude: float | None = None
    """Degrees, positive in the east."""


def read_exif(image: Image.Image) -> ImageExif:
    """Return the EXIF values of an opened image."""
    block = exif_bytes(image.info)
    while block.startswith(b"Exif\0\0"):
        block = block[6:]
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None or len(block) < 8:
        return ImageExif()
    main = _read_directory(block, order, struct.unpack_from(f"{order}I", block, 4)[0])
    details = _read_directory(block, order, _unpack_offset(main.get(EXIF_DIRECTORY), order))
    position = _read_directory(block, order, _unpack_offset(main.get(GPS_DIRECTORY), order))
    return ImageExif(
        _parse_date(details.get(DATE_ORIGINAL)) or _parse_date(details.get(DATE_DIGITIZED)),
        _format_camera(_parse_text(main.get(MAKE)), _parse_text(main.get(MODEL))),
        _parse_degrees(position.get(LATITUDE), position.get(LATITUDE_REF), order, "NS", 90),
        _parse_degrees(position.get(LONGITUDE), position.get(LONGITUDE_REF), order, "EW", 180),
    )


def _read_directory(block: bytes, order: str, start: int) -> dict[int, bytes]:
    return dict(_iter_entries(block, order, start)) if 0 < start <= len(block) - 2 else {}


def _iter_entries(block: bytes, order: str, start: int) -> Iterator[tuple[int, bytes]]:
    """Yield tag and bytes of each value in a directory; more than 4 bytes are elsewhere, at an offset."""
    (num_entries,) = struct.unpack_from(f"{order}H", block, start)
    end = start + 2 + 12 * min(num_entries, MAX_ENTRIES, (len(block) - start - 2) // 12)
    for tag, type, count, field in struct.iter_unpack(f"{order}HHI4s", block[start + 2 : end]):
        size = _TYPE_SIZES.get(type, 0) * count
        if size <= len(field):
            yield tag, field[:size]
        else:
            (offset,) = struct.unpack(f"{order}I", field)
            yield tag, block[offset : offset + min(size, MAX_VALUE_BYTES)]


def _unpack_offset(value: bytes | None, order: str) -> int:
    return struct.unpack(f"{order}I", value)[0] if value is not None and len(value) == 4 else 0


def _parse_text(value: bytes | None) -> str:
    text = (value or b"").partition(b"\0")[0].decode("utf-8", "replace")
    return " ".join(text.split())


def _parse_date(value: bytes | None) -> datetime | None:
    try:
        return datetime.strptime(_parse_text(value), "%Y:%m:%d %H:%M:%S")
    except ValueError:  # missing, or 0000:00:00 00:00:00 of a camera without a clock
        return None


def _format_camera(make: str, model: str) -> str | None:
    """Return make and model, without the make twice: "Canon", "Canon EOS R5" → "Canon EOS R5"."""
    has_make = model.casefold().startswith(make.casefold())
    return (model if has_make else f"{make} {model}".strip()) or None


def _parse_degrees(
    value: bytes | None, reference: bytes | None, order: str, signs: str, max_degrees: int
) -> float | None:
    """Convert three rational numbers, degrees, minutes and seconds, to degrees."""
    sign = {signs[0]: 1, signs[1]: -1}.get(_parse_text(reference))
    if sign is None or value is None or len(value) != 24:
        return None
    numbers = struct.unpack(f"{order}6I", value)
    if not all(numbers[1::2]):
        return None
    degrees, minutes, seconds = (top / bottom for top, bottom in zip(numbers[::2], numbers[1::2], strict=True))
    total = degrees + minutes / 60 + seconds / 3600
    return sign * total if total <= max_degrees else None
