"""Images in requests: every usual spelling of base64, and sizes from headers that agree with the decoder."""

import base64
import io
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from zebra.errors import BadSample
from zebra.serve.image_header import read_num_pixels
from zebra.serve.request_images import decode_base64, open_image_file

from .conftest import noise_image

DATA = noise_image(3)
PLAIN = base64.b64encode(DATA).decode()


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        base64.encodebytes(DATA).decode(),
        PLAIN.replace("A", "A\r\n"),
        base64.urlsafe_b64encode(DATA).decode(),
        base64.urlsafe_b64encode(DATA).decode().rstrip("="),
        f"data:image/jpeg;base64,{PLAIN}",
        f" data:image/jpeg;base64,{base64.encodebytes(DATA).decode()}".lstrip(),
    ],
)
def test_base64_is_decoded_in_every_usual_spelling(text):
    assert decode_base64(text, "image 0") == DATA


@pytest.mark.parametrize("text", ["not base64!", "data:image/png,AAAA", "AAAAA", "QQ==QQ", "é"])
def test_other_text_is_refused_with_the_image(text):
    with pytest.raises(BadSample, match="image 7: data is not base64"):
        decode_base64(text, "image 7")


def encode(size, format, **options):
    buffer = io.BytesIO()
    Image.new(options.pop("mode", "RGB"), size, "red").save(buffer, format, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("size", [(8, 8), (300, 17), (1, 1), (2000, 1500)])
@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True, "exif": b"Exif\0\0" + bytes(60_000)}),
        ("JPEG", {"mode": "L"}),
        ("PNG", {}),
        ("GIF", {"mode": "L"}),
        ("WEBP", {}),
        ("WEBP", {"lossless": True}),
        ("WEBP", {"mode": "RGBA"}),
        ("WEBP", {"exif": b"Exif\0\0" + bytes(100)}),
    ],
)
def test_the_header_says_how_many_pixels_are_decoded(size, format, options):
    data = encode(size, format, **options)
    assert read_num_pixels(data) == size[0] * size[1]
    assert Image.open(io.BytesIO(data)).size == size


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xd8\xff", b"\xff\xd8\xff\xe0\0\0", b"RIFF\0\0\0\0WEBPVP8 ", b"GIF89a", b"BM"]
)
def test_a_header_without_a_size_is_damaged(data):
    assert read_num_pixels(data) is None
    with pytest.raises(BadSample):
        open_image_file(data, "image 0")


@given(
    st.binary(max_size=200), st.sampled_from([b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF1234WEBPVP8X"])
)
def test_any_bytes_have_a_size_or_none(data, start):
    num_pixels = read_num_pixels(start + data)
    assert num_pixels is None or num_pixels >= 0


def test_a_jpeg_of_padding_is_given_up_after_some_thousand_bytes():
    assert read_num_pixels(b"\xff\xd8" + b"\xff" * 100_000 + DATA[2:]) is None


def test_a_large_size_is_refused_without_memory_for_it():
    data = encode((6000, 5001), "PNG")
    tracemalloc.start()
    with pytest.raises(BadSample, match="too many pixels"):
        open_image_file(data, "image 0")
    assert tracemalloc.get_traced_memory()[1] < 100_000
    tracemalloc.stop()
