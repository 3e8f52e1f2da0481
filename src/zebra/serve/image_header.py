"""Width and height of an image, from its header, in bounded time."""

from zebra.images.formats import media_type

MAX_JPEG_SEGMENTS = 5000
"""Segments before the size; encoders write fewer than a hundred."""
_JPEG_SIZE_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Start-of-frame markers."""
_JPEG_SINGLE_MARKERS = frozenset((0x01, *range(0xD0, 0xDA)))
"""Markers without a length."""


def read_num_pixels(data: bytes) -> int | None:
    """Return width × height of a JPEG, PNG, WebP or GIF; None for other formats and damaged headers."""
    size = read_size(data)
    return None if size is None else size[0] * size[1]


def read_size(data: bytes) -> tuple[int, int] | None:
    """Return width and height of a JPEG, PNG, WebP or GIF; None for other formats and damaged headers."""
    match media_type(data):
        case "image/png" if len(data) >= 24:
            return int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
        case "image/gif" if len(data) >= 10:
            return _gif_size(data)
        case "image/webp" if len(data) >= 30:
            return _webp_size(data)
        case "image/jpeg":
            return _jpeg_size(data)
    return None


def _gif_size(data: bytes) -> tuple[int, int]:
    return int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little")


def _webp_size(data: bytes) -> tuple[int, int] | None:
    match data[12:16]:
        case b"VP8X":  # canvas: 24 bits each, minus one
            return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
        case b"VP8L":  # 14 bits each, minus one, after a signature byte
            bits = int.from_bytes(data[21:25], "little")
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8 ":  # 14 bits each, after a frame tag of 3 and a start code of 3 bytes
            return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF
    return None


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    position = 2
    for _ in range(MAX_JPEG_SEGMENTS):
        if position + 9 > len(data):
            return None
        marker = data[position + 1]
        if data[position] != 0xFF or marker in (0x00, 0xFF):  # padding
            position += 1
        elif marker in _JPEG_SIZE_MARKERS:
            height, width = data[position + 5 : position + 7], data[position + 7 : position + 9]
            return int.from_bytes(width), int.from_bytes(height)
        elif marker in _JPEG_SINGLE_MARKERS:
            position += 2
        else:
            position += 2 + int.from_bytes(data[position + 2 : position + 4])
    return None
