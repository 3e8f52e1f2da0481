"""Thumbnails: size, orientation, and little memory for large JPEGs."""

import io

import numpy as np
import pytest
from PIL import Image

from zebra.errors import BadSample
from zebra.images.thumbnail import resize_to_jpeg


def encode(image, format="JPEG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def gradient(width, height):
    return Image.fromarray(np.linspace(0, 255, width * height * 3).reshape(height, width, 3).astype(np.uint8))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
def test_a_thumbnail_has_the_requested_size_and_the_look_of_the_image(format):
    image = gradient(1200, 900)
    thumbnail = Image.open(io.BytesIO(resize_to_jpeg(encode(image, format), 96)))
    assert (thumbnail.format, thumbnail.size) == ("JPEG", (96, 72))
    expected = np.asarray(Image.open(io.BytesIO(encode(image, format))).convert("RGB").resize((96, 72)), np.float32)
    assert np.abs(np.asarray(thumbnail, np.float32) - expected).mean() < 4


def test_a_small_image_is_not_enlarged():
    assert Image.open(io.BytesIO(resize_to_jpeg(encode(gradient(40, 30)), 96))).size == (40, 30)


def test_a_thumbnail_is_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert Image.open(io.BytesIO(resize_to_jpeg(encode(gradient(1200, 900), exif=exif), 96))).size == (72, 96)


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_gray_and_cmyk_jpegs_have_thumbnails(mode):
    assert Image.open(io.BytesIO(resize_to_jpeg(encode(gradient(400, 300).convert(mode)), 96))).size == (96, 72)


@pytest.mark.parametrize("data", [b"", b"nothing", encode(Image.new("RGB", (40, 30)))[:-200]])
def test_a_damaged_image_has_none(data):
    with pytest.raises(BadSample):
        resize_to_jpeg(data, 96)
