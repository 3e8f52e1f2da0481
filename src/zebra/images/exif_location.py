"""Removal of the place where an image was taken, without encoding it again.

Coordinates in EXIF and XMP are overwritten; all other bytes stay where they are. Places in makers' notes, in compressed
metadata and in names are not found.
References: CIPA DC-008 (Exif 3.0), section 4.6.7; XMP specification, part 3; PNG, third edition; RFC 9649 (WebP).
"""

import re
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping

from zebra.images.exif import GPS_DIRECTORY
from zebra.images.formats import media_type
from zebra.images.header_limits import iter_jpeg_segments, iter_png_chunks

MAX_ENTRIES, MAX_VALUE_BYTES = 64, 1_024
"""Limits of a GPS directory and of a value; the standard has 32 entries of a few bytes."""
MAX_BOXED_BYTES = 1 << 20
"""Largest EXIF block in a file of boxes."""
_TIFF_START = re.compile(rb"II\*\0|MM\0\*")
_EXIF_HEADER = b"Exif\0\0"
_XMP_HEADERS = (b"http://ns.adobe.com/xap/1.0/\0", b"http://ns.adobe.com/xmp/extension/\0")
_XMP_KEYWORD = b"XML:com.adobe.xmp\0"
_TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1, 9: 4, 10: 8, 129: 1}
"""TIFF type → bytes."""
_XMP_LOCATION = re.compile(
    rb"exif:GPS\w{1,40}\s{0,9}=\s{0,9}(?:\"[^\"<]{0,1000}\"|'[^'<]{0,1000}')"
    rb"|<exif:GPS(\w{1,40})>[^<]{0,1000}</exif:GPS\1>"
)
Span = tuple[int, int]


def remove_location(data: bytes) -> bytes:
    """Return an encoded image without coordinates, of the same length; the same object if it has none."""
    find_metadata = _METADATA_FINDERS.get(media_type(data))
    if find_metadata is None:
        return data
    image = bytearray(data)
    is_changed = False
    for start, stop in find_metadata(data):
        found = bytes(image[start:stop])
        block = _blank_gps(found) if found[:2] in (b"II", b"MM") else _blank_xmp(found)
        if block == found:
            continue
        is_changed = True
        image[start:stop] = block
        if media_type(data) == "image/png":
            image[stop : stop + 4] = zlib.crc32(image[start - 4 : stop]).to_bytes(4)  # of the chunk's type and contents
    return bytes(image) if is_changed else data


def _blank_gps(exif: bytes) -> bytes:
    """Return an EXIF block, a TIFF file, with an empty GPS directory."""
    order = "<" if exif.startswith(b"II") else ">"
    block = bytearray(exif)
    for tag, _, field in _iter_directory(exif, order, _unpack(exif, f"{order}I", 4)):
        if tag != GPS_DIRECTORY:
            continue
        directory = _unpack(exif, f"{order}I", field)
        for _, size, value in _iter_directory(exif, order, directory):
            if size > 4:  # the value is elsewhere, at an offset
                offset = _unpack(exif, f"{order}I", value)
                _fill(block, offset, offset + min(size, MAX_VALUE_BYTES), b"\0")
            _fill(block, value - 8, value + 4, b"\0")
        _fill(block, directory, directory + 2, b"\0")
    return bytes(block)


def _iter_directory(exif: bytes, order: str, start: int) -> Iterator[tuple[int, int, int]]:
    """Yield tag, size of the value in bytes, and position of the field with it or its offset, of each entry."""
    num_entries = _unpack(exif, f"{order}H", start) if start else 0
    for position in range(start + 2, start + 2 + 12 * min(num_entries, 256), 12):
        if position + 12 > len(exif):
            return
        tag, value_type, count = struct.unpack_from(f"{order}HHI", exif, position)
        yield tag, _TYPE_SIZES.get(value_type, 0) * count, position + 8


def _unpack(data: bytes, layout: str, position: int) -> int:
    """Return an integer; 0 beyond the end."""
    is_inside = position + struct.calcsize(layout) <= len(data)
    return int(struct.unpack_from(layout, data, position)[0]) if is_inside else 0


def _blank_xmp(xmp: bytes) -> bytes:
    return _XMP_LOCATION.sub(lambda match: b" " * len(match[0]), xmp)


def _fill(block: bytearray, start: int, stop: int, byte: bytes) -> None:
    stop = min(stop, len(block))
    if start < stop:
        block[start:stop] = byte * (stop - start)


def _find_jpeg_metadata(data: bytes) -> Iterator[Span]:
    for offset in iter_jpeg_segments(data):
        stop = offset + 2 + int.from_bytes(data[offset + 2 : offset + 4])
        if data.startswith(b"\xff\xe1", offset):
            for header in (_EXIF_HEADER, *_XMP_HEADERS):
                if data.startswith(header, offset + 4):
                    yield offset + 4 + len(header), min(stop, len(data))


def _find_png_metadata(data: bytes) -> Iterator[Span]:
    for offset in iter_png_chunks(data):
        kind, start = data[offset + 4 : offset + 8], offset + 8
        stop = start + int.from_bytes(data[offset : offset + 4])
        if stop + 4 <= len(data) and (kind == b"eXIf" or (kind == b"iTXt" and data.startswith(_XMP_KEYWORD, start))):
            yield start, stop


def _find_webp_metadata(data: bytes) -> Iterator[Span]:
    position = 12
    while position + 8 <= len(data):
        kind, start = data[position : position + 4], position + 8
        stop = start + int.from_bytes(data[position + 4 : position + 8], "little")
        if kind == b"EXIF":
            yield start + len(_EXIF_HEADER) * data.startswith(_EXIF_HEADER, start), min(stop, len(data))
        elif kind == b"XMP ":
            yield start, min(stop, len(data))
        position = stop + stop % 2


def _find_tiff_metadata(data: bytes) -> Iterator[Span]:
    yield 0, len(data)
    yield from _find_xmp_packets(data)


def _find_boxed_metadata(data: bytes) -> Iterator[Span]:
    """Yield EXIF blocks and XMP anywhere in a file of boxes: their places are in tables of many kinds."""
    for match in _TIFF_START.finditer(data):
        yield match.start(), min(match.start() + MAX_BOXED_BYTES, len(data))
    yield from _find_xmp_packets(data)


def _find_xmp_packets(data: bytes) -> Iterator[Span]:
    stop = 0
    while (start := data.find(b"<x:xmpmeta", stop)) >= 0:
        end = data.find(b"</x:xmpmeta>", start)
        stop = len(data) if end < 0 else end
        yield start, stop


_METADATA_FINDERS: Mapping[str, Callable[[bytes], Iterator[Span]]] = {
    "image/jpeg": _find_jpeg_metadata,
    "image/png": _find_png_metadata,
    "image/webp": _find_webp_metadata,
    "image/tiff": _find_tiff_metadata,
    "image/avif": _find_boxed_metadata,
    "image/heic": _find_boxed_metadata,
    "image/jxl": _find_boxed_metadata,
}
"""Media type → function that yields the spans of EXIF blocks, which start with II or MM, and of XMP."""
