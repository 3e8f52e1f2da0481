"""Bytes are images by what they are, and are resized by their shorter side."""

import io
from hashlib import sha256

import numpy as np
import pytest
from PIL import Image

from zebra.config.fetch import FetchConfig
from zebra.curate.fetch.images import prepare_image, require_image_signature
from zebra.curate.fetch.outcome import FetchFailure


def encode(image, format="JPEG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def draw(width, height, mode="RGB"):
    ramp = np.add.outer(np.arange(height) * 255 // height, np.arange(width) * 255 // width) // 2
    return Image.fromarray(ramp.astype(np.uint8)).convert(mode)


def test_without_a_size_the_bytes_stay_as_they_are():
    data = encode(draw(300, 200))
    image = prepare_image(data, "x", FetchConfig())
    assert image.data == data
    assert image.sha256 == image.source_sha256 == sha256(data).digest()


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (encode(draw(300, 200)), (96, 64)),
        (encode(draw(1000, 800)), (80, 64)),
        (encode(draw(300, 200, "CMYK")), (96, 64)),
        (encode(draw(300, 200, "RGBA"), "PNG"), (96, 64)),
        (encode(draw(200, 301), "PNG"), (64, 96)),
        (encode(draw(300, 200), "WEBP"), (96, 64)),
        (encode(draw(300, 200, "P"), "GIF"), (96, 64)),
    ],
)
def test_a_larger_image_becomes_a_jpeg_of_the_shorter_side(data, size):
    image = prepare_image(data, "x", FetchConfig(shorter_side=64))
    assert image.data.startswith(b"\xff\xd8\xff")
    assert image.source_sha256 == sha256(data).digest() != image.sha256 == sha256(image.data).digest()
    resized = Image.open(io.BytesIO(image.data))
    assert resized.size == size
    pixels = np.asarray(resized.convert("L")).astype(int)
    assert np.abs(pixels - np.asarray(draw(*size, "L")).astype(int)).max() < 12


def test_a_smaller_image_stays_as_it_is():
    data = encode(draw(300, 60), "PNG")
    assert prepare_image(data, "x", FetchConfig(shorter_side=64)).data == data


def test_a_turned_image_is_upright_when_it_is_resized():
    exif = Image.Exif()
    exif[0x0112] = 6
    image = prepare_image(encode(draw(300, 200), exif=exif), "x", FetchConfig(shorter_side=64))
    assert Image.open(io.BytesIO(image.data)).size == (64, 96)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (encode(draw(300, 300), "PNG"), "too many pixels"),
        (encode(draw(200, 5), "PNG"), "too thin"),
        (b"\xff\xd8\xff" + bytes(100), "damaged image"),
    ],
)
def test_an_image_that_cannot_be_resized_has_a_reason(data, reason):
    with pytest.raises(FetchFailure) as failure:
        prepare_image(data, "x", FetchConfig(shorter_side=64, max_pixels=80_000))
    assert (failure.value.status, failure.value.reason) == ("permanent", reason)


def test_a_truncated_image_is_noticed_when_it_is_resized():
    data = encode(draw(300, 200))
    with pytest.raises(FetchFailure, match="truncated image"):
        prepare_image(data[: len(data) // 2], "x", FetchConfig(shorter_side=64))


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        (b"\xef\xbb\xbf \n<html>", "web page instead of an image"),
        (b"<?xml version='1.0", "web page instead of an image"),
        (b"<svg xmlns='http", "not an image"),
        (b'{"error": "none"}', "not an image"),
        (b"RIFF....WAVE", "not an image"),
        (b"\x00\x00\x00\x20ftypisom", "not an image"),
        (b"", "empty body"),
    ],
)
def test_other_bytes_are_refused_whatever_their_type(start, reason):
    with pytest.raises(FetchFailure) as failure:
        require_image_signature(start, "image/jpeg")
    assert failure.value.reason == reason


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
def test_images_are_known_by_their_first_bytes(format):
    require_image_signature(encode(draw(30, 20), format)[:16], "text/html")
