"""Image formats by their first bytes."""

import io

import pytest
from PIL import Image

from zebra.images.formats import UNKNOWN_MEDIA_TYPE, media_type


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "BMP", "WEBP"])
def test_files_written_by_pillow_are_recognized(format):
    buffer = io.BytesIO()
    Image.new("RGB", (9, 9)).save(buffer, format)
    assert media_type(buffer.getvalue()) == f"image/{format.lower()}"


@pytest.mark.parametrize("data", [b"", b"RIFF", b"RIFF\x10\x00\x00\x00WAVEfmt ", b"GIF99a", b"\x89PNG\n", b"<svg/>"])
def test_other_bytes_are_unknown(data):
    assert media_type(data) == UNKNOWN_MEDIA_TYPE
