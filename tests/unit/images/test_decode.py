"""Decoding of valid, damaged and hostile image files."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from zebra.errors import BadSample
from zebra.images.decode import decode_image

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


def encode(image: Image.Image, format: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def noise(side: int = 40) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8))


def red_left_blue_right() -> Image.Image:
    image = Image.new("RGB", (40, 20), RED)
    image.paste(BLUE, (20, 0, 40, 20))
    return image


def png_with_size(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100))


def reason(data: bytes, **options) -> str:
    with pytest.raises(BadSample) as error_info:
        decode_image(data, "here", **options)
    assert error_info.value.location == "here"
    return error_info.value.reason


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
def test_every_allowed_format_becomes_rgb_of_its_size(format: str) -> None:
    image = decode_image(encode(Image.new("RGB", (30, 20), RED), format), "x")
    assert image.mode == "RGB"
    assert image.size == (30, 20)
    assert np.abs(np.asarray(image).astype(int) - RED).max() <= 2


@pytest.mark.parametrize("format", ["PPM", "ICO", "TGA"])
def test_other_formats_of_pillow_are_refused(format: str) -> None:
    assert reason(encode(noise(), format)) == "not an image"


def test_zero_bytes_are_an_empty_file() -> None:
    assert reason(b"") == "empty file"


def test_a_web_page_is_not_an_image_and_the_detail_shows_its_first_bytes() -> None:
    with pytest.raises(BadSample, match=r"not an image.*DOCTYPE"):
        decode_image(b"<!DOCTYPE html><html>404</html>", "x")


def test_a_jpeg_cut_in_half_is_truncated() -> None:
    data = encode(noise(), "JPEG")
    assert reason(data[: len(data) // 2]) == "truncated image"


def test_a_jpeg_without_its_last_two_bytes_is_truncated() -> None:
    assert reason(encode(noise(), "JPEG")[:-2]) == "truncated image"


def test_a_png_cut_in_half_is_truncated() -> None:
    data = encode(noise())
    assert reason(data[: len(data) // 2]) == "truncated image"


def test_a_known_signature_before_garbage_is_a_damaged_image() -> None:
    assert reason(b"\x89PNG\r\n\x1a\n" + b"nonsense") == "damaged image"


def test_a_png_with_a_broken_checksum_is_damaged() -> None:
    data = bytearray(encode(noise()))
    data[-20] ^= 1
    assert reason(bytes(data)) == "damaged image"


def test_16_bit_gray_is_scaled_not_clipped() -> None:
    gray = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    pixels = np.asarray(decode_image(encode(Image.fromarray(gray)), "x"))
    assert np.abs(pixels[:, :, 0] - gray / 257).max() <= 0.51


def test_the_transparent_value_of_16_bit_gray_becomes_white() -> None:
    image = Image.fromarray(np.full((16, 16), 1000, dtype=np.uint16))
    assert decode_image(encode(image, transparency=1000), "x").getpixel((3, 3)) == WHITE


def test_cmyk_is_converted() -> None:
    image = decode_image(encode(Image.new("RGB", (16, 16), (200, 30, 60)).convert("CMYK"), "JPEG"), "x")
    assert np.abs(np.array(image.getpixel((8, 8))) - (200, 30, 60)).max() <= 3


def test_transparent_pixels_become_white() -> None:
    assert decode_image(encode(Image.new("RGBA", (16, 16), (255, 0, 0, 0))), "x").getpixel((1, 1)) == WHITE
    assert decode_image(encode(Image.new("LA", (16, 16), (7, 0))), "x").getpixel((1, 1)) == WHITE


def test_half_transparent_red_becomes_pink() -> None:
    pixel = decode_image(encode(Image.new("RGBA", (16, 16), (255, 0, 0, 128))), "x").getpixel((1, 1))
    assert pixel == (255, 127, 127)


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_a_color_declared_transparent_becomes_white(mode: str) -> None:
    image = Image.new("RGB", (16, 16), RED).convert(mode)
    assert decode_image(encode(image, transparency=image.getpixel((0, 0))), "x").getpixel((1, 1)) == WHITE


def test_exif_orientation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = decode_image(encode(red_left_blue_right(), exif=exif), "x")
    assert image.size == (20, 40)
    assert image.getpixel((10, 2)) == RED
    assert image.getpixel((10, 37)) == BLUE


def test_broken_exif_is_ignored() -> None:
    data = encode(red_left_blue_right(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03")
    assert decode_image(data, "x").size == (40, 20)


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG"])
def test_an_animation_gives_its_first_frame(format: str) -> None:
    frames = [Image.new("RGB", (16, 16), color) for color in (RED, BLUE)]
    data = encode(frames[0], format, save_all=True, append_images=frames[1:])
    assert np.abs(np.array(decode_image(data, "x").getpixel((8, 8))) - RED).max() <= 2


@pytest.mark.parametrize("size", [(1, 5000), (5000, 1), (7, 7), (10, 201)])
def test_a_strip_or_a_tiny_image_is_too_thin(size: tuple[int, int]) -> None:
    assert reason(encode(Image.new("RGB", size))) == "too thin"


@pytest.mark.parametrize("size", [(8, 8), (10, 200)])
def test_the_smallest_and_the_most_elongated_allowed_are_read(size: tuple[int, int]) -> None:
    assert decode_image(encode(Image.new("RGB", size)), "x").size == size


@pytest.mark.parametrize("side", [10_000, 50_000])
def test_too_many_pixels_are_refused_before_decoding(side: int) -> None:
    # decoding would report a truncated image, because the pixels are missing
    assert reason(png_with_size(side, side)) == "too many pixels"


def test_the_pixel_limit_is_an_argument() -> None:
    data = encode(noise(40))
    assert reason(data, max_pixels=1599) == "too many pixels"
    assert decode_image(data, "x", max_pixels=1600).size == (40, 40)


def test_reference_mode_turns_an_image_upright_and_keeps_its_mode() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = decode_image(encode(red_left_blue_right().convert("RGBA"), exif=exif), "x", mode="reference")
    assert image.mode == "RGBA"
    assert image.size == (20, 40)
    assert image.getpixel((10, 2)) == (*RED, 255)


def test_reference_mode_has_the_same_limits() -> None:
    assert reason(png_with_size(50_000, 50_000), mode="reference") == "too many pixels"
    assert reason(b"", mode="reference") == "empty file"


def test_decoding_restores_the_warning_filters() -> None:
    before = list(warnings.filters)
    with pytest.raises(BadSample):
        decode_image(png_with_size(10_000, 10_000), "x")
    assert list(warnings.filters) == before


SEEDS = [encode(noise(16), format) for format in ("JPEG", "PNG", "WEBP", "GIF", "BMP")]


@given(
    seed=st.sampled_from(SEEDS),
    changes=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=8),
    cut=st.integers(0, 2000),
)
def test_any_bytes_give_rgb_or_a_bad_sample(seed, changes, cut) -> None:
    data = bytearray(seed)
    for offset, value in changes:
        data[offset % len(data)] = value
    try:
        assert decode_image(bytes(data[: max(1, cut)]), "x").mode == "RGB"
    except BadSample as bad:
        assert bad.reason
