"""Formats are told by their first bytes."""

import io

import pytest
from PIL import Image

from zebra.images.formats import UNKNOWN_MEDIA_TYPE, media_type


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "WEBP"])
def test_what_pillow_writes_is_recognized(kind):
    buffer = io.BytesIO()
    Image.new("RGB", (9, 9)).save(buffer, kind)
    assert media_type(buffer.getvalue()) == f"image/{kind.lower()}"


@pytest.mark.parametrize(
    "data", [b"", b"RIFF", b"RIFF\x10\x00\x00\x00WAVEfmt ", b"GIF99a", b"\x89PNG\n", b"<svg/>"]
)
def test_anything_else_is_unknown(data):
    assert media_type(data) == UNKNOWN_MEDIA_TYPE
