"""Width and height of a JPEG XL image, from its header.

Reference: ISO/IEC 18181-1, annex D; 18181-2 for the container. The decoder opens an image by decoding all of it, so its
size is checked before.
"""

_CONTAINER_START = b"\0\0\0\x0cJXL \r\n\x87\n"
_CODESTREAM_START = b"\xff\n"
_SIDE_BITS = (9, 13, 18, 30)
_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}
_MAX_BOXES = 64
_SIZE_HEADER_BYTES = 10


def read_jxl_size(data: bytes) -> tuple[int, int] | None:
    """Return width and height of the codestream, before its orientation; None if the header is damaged."""
    codestream = _find_codestream(data) if data.startswith(_CONTAINER_START) else data
    if not codestream.startswith(_CODESTREAM_START) or len(codestream) < 2 + _SIZE_HEADER_BYTES:
        return None
    bits = _Bits(int.from_bytes(codestream[2 : 2 + _SIZE_HEADER_BYTES], "little"))
    is_small = bits.take(1)
    height = _read_side(bits, is_small)
    ratio = bits.take(3)
    if not ratio:
        return _read_side(bits, is_small), height
    numerator, denominator = _RATIOS[ratio]
    return height * numerator // denominator, height


def _read_side(bits: "_Bits", is_small: int) -> int:
    if is_small:
        return 8 * (1 + bits.take(5))
    return 1 + bits.take(_SIDE_BITS[bits.take(2)])


class _Bits:
    """Unsigned integers of some bits each, from the lowest bit on."""

    def __init__(self, value: int) -> None:
        self._value = value

    def take(self, num_bits: int) -> int:
        """Return the next integer."""
        value = self._value & ((1 << num_bits) - 1)
        self._value >>= num_bits
        return value


def _find_codestream(data: bytes) -> bytes:
    """Return the start of the codestream in a container; empty if there is none."""
    position = len(_CONTAINER_START)
    for _ in range(_MAX_BOXES):
        size, kind = int.from_bytes(data[position : position + 4]), data[position + 4 : position + 8]
        header = 8
        if size == 1:  # a size of 64 bits follows the type
            size, header = int.from_bytes(data[position + 8 : position + 16]), 16
        if kind in (b"jxlc", b"jxlp"):
            start = position + header + 4 * (kind == b"jxlp")  # a part begins with its number
            return data[start : start + 2 + _SIZE_HEADER_BYTES]
        if size < header:  # 0: up to the end
            break
        position += size
    return b""
