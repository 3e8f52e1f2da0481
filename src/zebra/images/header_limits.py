"""Limits on the metadata of an image file, which Pillow parses before the pixels.

Pillow visits blocks one by one, so a few megabytes of empty ones keep it busy for seconds. Encoders write a block per
some kilobytes, so the limit grows with the size of the file.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import islice

from zebra.errors import BadSample
from zebra.images.formats import media_type

MIN_BLOCKS = 5000
BYTES_PER_BLOCK = 1024
"""A file may have MIN_BLOCKS blocks, and one more for every BYTES_PER_BLOCK bytes."""
MAX_JPEG_EXIF_BYTES = 1 << 20
"""Pillow joins the EXIF segments of a JPEG, each of at most 64 KiB, and unpacks the values of its resolution."""

_JPEG_SINGLE_MARKERS = frozenset((0x01, *range(0xD0, 0xDA)))
"""JPEG markers without a length."""
_JPEG_START_OF_SCAN = 0xDA
_JPEG_EXIF_MARKER = b"\xff\xe1"
_GIF_EXTENSION, _GIF_IMAGE, _GIF_END = b"!,;"


def require_small_metadata(data: bytes, location: str) -> None:
    """Count the blocks that Pillow visits, until the limit.

    Raises:
        BadSample: The file has more blocks than its size explains, or a JPEG has too much EXIF.
    """
    iter_blocks = _BLOCK_ITERATORS.get(media_type(data))
    if iter_blocks is None:
        return
    limit = MIN_BLOCKS + len(data) // BYTES_PER_BLOCK
    offsets = list(islice(iter_blocks(data), limit + 1))
    if len(offsets) > limit:
        raise BadSample("too much metadata", location, f"more than {limit:,} blocks in {len(data):,} bytes")
    num_exif_bytes = sum(
        int.from_bytes(data[offset + 2 : offset + 4])
        for offset in offsets
        if data.startswith(_JPEG_EXIF_MARKER, offset) and data.startswith(b"Exif\0\0", offset + 4)
    )
    if num_exif_bytes > MAX_JPEG_EXIF_BYTES:
        raise BadSample("too much metadata", location, f"{num_exif_bytes:,} bytes of EXIF")


def iter_png_chunks(data: bytes) -> Iterator[int]:
    """Yield the offset of each chunk: length, type, data, checksum."""
    position = 8
    while position + 8 <= len(data):
        yield position
        position += 12 + int.from_bytes(data[position : position + 4])


def iter_jpeg_segments(data: bytes) -> Iterator[int]:
    """Yield the offset of each segment before the first scan, and of each byte between segments."""
    position = 2
    while position + 4 <= len(data):
        yield position
        marker = data[position + 1]
        if data[position] != 0xFF or marker in (0x00, 0xFF):  # not a marker
            position += 1
        elif marker == _JPEG_START_OF_SCAN:
            return
        elif marker in _JPEG_SINGLE_MARKERS:
            position += 2
        else:
            position += 2 + int.from_bytes(data[position + 2 : position + 4])


def _iter_gif_blocks(data: bytes) -> Iterator[int]:
    """Yield the offset of each extension and sub-block before the first frame, and of each byte between them."""
    if len(data) < 13:
        return
    has_color_table, size = data[10] & 0x80, data[10] & 0x07
    position = 13 + (3 << (size + 1) if has_color_table else 0)
    while position < len(data) and data[position] not in (_GIF_IMAGE, _GIF_END):
        yield position
        if data[position] != _GIF_EXTENSION:
            position += 1
            continue
        position += 2
        while position < len(data) and data[position]:
            yield position
            position += 1 + data[position]
        position += 1


_BLOCK_ITERATORS: Mapping[str, Callable[[bytes], Iterator[int]]] = {
    "image/png": iter_png_chunks,
    "image/jpeg": iter_jpeg_segments,
    "image/gif": _iter_gif_blocks,
}
"""WebP is parsed in C, and BMP has a single header."""
