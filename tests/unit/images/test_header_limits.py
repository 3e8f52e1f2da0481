"""Limits on metadata blocks."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from zebra.errors import BadSample
from zebra.images.decode import decode_image
from zebra.images.header_limits import require_small_metadata

NUM_BLOCKS = 20_000


def encoded(format: str, **options) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def segment(marker: int, data: bytes = b"") -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(data) + 2) + data


PNG, JPEG, GIF = encoded("PNG"), encoded("JPEG"), encoded("GIF")
AFTER_GIF_HEADER = 13 + 3 * 256
FILES = {
    "PNG, empty chunks before the pixels": PNG[:33] + chunk(b"abCd") * NUM_BLOCKS + PNG[33:],
    "PNG, empty chunks after the pixels": PNG[:-12] + chunk(b"abCd") * NUM_BLOCKS + PNG[-12:],
    "PNG, empty pixel chunks": PNG[:33] + chunk(b"IDAT") * NUM_BLOCKS + PNG[33:],
    "PNG, texts": PNG[:33] + chunk(b"tEXt", b"a\0b") * NUM_BLOCKS + PNG[33:],
    "JPEG, empty segments": JPEG[:2] + segment(0xE9) * NUM_BLOCKS + JPEG[2:],
    "JPEG, comments": JPEG[:2] + segment(0xFE, b"a") * NUM_BLOCKS + JPEG[2:],
    "JPEG, fill bytes": JPEG[:2] + b"\xff" * NUM_BLOCKS + JPEG[2:],
    "JPEG, zeros between segments": JPEG[:20] + bytes(NUM_BLOCKS) + JPEG[20:],
    "GIF, comments": GIF[:AFTER_GIF_HEADER] + b"!\xfe\x01a\0" * NUM_BLOCKS + GIF[AFTER_GIF_HEADER:],
    "GIF, one comment of many parts": (
        GIF[:AFTER_GIF_HEADER] + b"!\xfe" + b"\x01a" * NUM_BLOCKS + b"\0" + GIF[AFTER_GIF_HEADER:]
    ),
    "GIF, zeros between blocks": GIF[:AFTER_GIF_HEADER] + bytes(NUM_BLOCKS) + GIF[AFTER_GIF_HEADER:],
}


@pytest.mark.parametrize("name", FILES)
def test_thousands_of_small_blocks_are_refused(name: str) -> None:
    with pytest.raises(BadSample, match="too much metadata"):
        decode_image(FILES[name], "here")


def test_a_jpeg_with_a_megabyte_of_exif_is_refused() -> None:
    """Pillow joins the segments and unpacks the values of the resolution when it opens the file."""
    exif = b"II*\0\x08\0\0\0" + struct.pack("<HHHII4x", 1, 0x0128, 5, 250_000, 26) + struct.pack("<II", 1, 1) * 250_000
    parts = [segment(0xE1, b"Exif\0\0" + exif[start : start + 65_000]) for start in range(0, len(exif), 65_000)]
    with pytest.raises(BadSample, match=r"too much metadata.*bytes of EXIF"):
        decode_image(JPEG[:2] + b"".join(parts) + JPEG[20:], "here")


def test_large_files_of_usual_blocks_are_read() -> None:
    profile = bytes(range(256)) * 4000  # 1 MB in 16 segments
    comments = b"!\xfe" + (b"\xff" + b"a" * 255) * 100 + b"\0"
    for data in (
        PNG[:33] + chunk(b"zzZz", b"a" * 8192) * 6000 + PNG[33:],
        encoded("JPEG", icc_profile=profile),
        GIF[:AFTER_GIF_HEADER] + comments + GIF[AFTER_GIF_HEADER:],
    ):
        assert decode_image(data, "here").size == (64, 64)


@given(st.sampled_from([PNG, JPEG, GIF]), st.integers(0, 900), st.binary(max_size=20))
def test_any_bytes_pass_or_are_a_bad_sample(seed: bytes, length: int, tail: bytes) -> None:
    try:
        require_small_metadata(seed[:length] + tail, "here")
    except BadSample as bad:
        assert bad.reason == "too much metadata"
