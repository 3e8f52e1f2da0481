"""Scaled JPEG decoding: the pixels and errors of `decode_image`, at reduced size where allowed."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from zebra.errors import BadSample
from zebra.images import jpeg
from zebra.images.decode import decode_image
from zebra.images.jpeg import decode_scaled


def encode(image: Image.Image, format: str = "JPEG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def scene(width: int, height: int, seed: int = 0) -> Image.Image:
    """Draw an image with edges, flat areas and gradients."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8))
    image = coarse.resize((width, height), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for _ in range(6):
        x, y = rng.integers(0, width), rng.integers(0, height)
        draw.ellipse((x, y, x + width // 3, y + height // 4), fill=tuple(rng.integers(0, 256, 3).tolist()))
    return image


def full_box(width: int, height: int) -> jpeg.CropBox:
    return 0, 0, width, height


def full_outcome(data: bytes) -> str:
    """Return "decoded", or the error message of `decode_image`."""
    try:
        decode_image(data, "x")
    except BadSample as bad:
        return str(bad)
    return "decoded"


def scaled_outcome(data: bytes, size: int) -> str:
    try:
        decode_scaled(data, "x", size, full_box)
    except BadSample as bad:
        return str(bad)
    return "decoded"


KINDS = {
    "4:4:4": encode(scene(60, 44), subsampling=0),
    "4:2:2": encode(scene(60, 44), subsampling=1),
    "4:2:0": encode(scene(60, 44), subsampling=2),
    "progressive": encode(scene(60, 44), progressive=True),
    "gray": encode(scene(60, 44).convert("L")),
    "progressive gray": encode(scene(60, 44).convert("L"), progressive=True),
    "restart markers": encode(scene(60, 44), restart_marker_blocks=3),
    "stored as RGB": encode(scene(60, 44), keep_rgb=True),
    "CMYK": encode(scene(60, 44).convert("CMYK")),
}


@pytest.mark.parametrize("kind", KINDS)
def test_full_size_images_have_the_pixels_of_decode_image(kind: str) -> None:
    pixels, box = decode_scaled(KINDS[kind], "x", 44, full_box)
    assert np.array_equal(pixels, np.asarray(decode_image(KINDS[kind], "x")))
    assert box == (0, 0, 60, 44)


@given(width=st.integers(8, 90), height=st.integers(8, 90), quality=st.integers(20, 98), seed=st.integers(0, 99))
def test_full_size_images_of_any_size_and_quality_have_the_pixels_of_decode_image(width, height, quality, seed) -> None:
    data = encode(scene(width, height, seed), quality=quality)
    pixels, _ = decode_scaled(data, "x", min(width, height), full_box)
    assert np.array_equal(pixels, np.asarray(decode_image(data, "x")))


@pytest.mark.parametrize(
    ("crop", "factor"), [(31, 1), (32, 2), (63, 2), (64, 4), (127, 4), (128, 8), (200, 8), (400, 8)]
)
def test_the_smallest_scale_with_a_large_enough_crop_is_used(crop: int, factor: int) -> None:
    data = encode(scene(411, 405))
    pixels, box = decode_scaled(data, "x", 16, lambda _width, _height: (3, 2, 3 + crop, 2 + crop))
    assert pixels.shape == (-(-405 // factor), -(-411 // factor), 3)
    assert min(box[2] - box[0], box[3] - box[1]) >= 16


def test_the_crop_is_rounded_to_pixels_of_the_smaller_image() -> None:
    _, box = decode_scaled(BIG, "x", 16, lambda _width, _height: (5, 6, 85, 87))
    assert box == (1, 2, 21, 22)


def test_the_shorter_side_of_the_crop_decides() -> None:
    pixels, _ = decode_scaled(encode(scene(400, 70)), "x", 32, full_box)
    assert pixels.shape == (35, 200, 3)


@given(left=st.integers(0, 100), top=st.integers(0, 80), width=st.integers(16, 300), height=st.integers(16, 240))
def test_the_crop_is_inside_at_any_scale_and_never_smaller_than_requested(left, top, width, height) -> None:
    pixels, box = decode_scaled(
        BIG, "x", 16, lambda _width, _height: (left, top, min(401, left + width), min(321, top + height))
    )
    assert 0 <= box[0] <= box[2] - 16
    assert 0 <= box[1] <= box[3] - 16
    assert box[2] <= pixels.shape[1]
    assert box[3] <= pixels.shape[0]


BIG = encode(scene(401, 321), quality=95)


@pytest.mark.parametrize("size", [25, 50, 100])
def test_a_smaller_image_has_the_same_content_in_the_same_place(size: int) -> None:
    """Each pixel of the crop is about the mean of the pixels that it replaces."""
    crop = 64, 32, 64 + 8 * size // (size // 25), 32 + 8 * size // (size // 25)
    pixels, (left, top, right, bottom) = decode_scaled(BIG, "x", size, lambda _width, _height: crop)
    factor = (crop[2] - crop[0]) // (right - left)
    assert factor == 200 // size
    actual = pixels[top:bottom, left:right].astype(float)
    full = np.asarray(decode_image(BIG, "x"))[crop[1] : crop[3], crop[0] : crop[2]]
    means = full.reshape(bottom - top, factor, right - left, factor, 3).mean(axis=(1, 3))
    assert np.abs(actual - means).mean() < 2


def test_the_crop_is_computed_from_the_size_of_the_full_upright_image() -> None:
    sizes = []
    exif = Image.Exif()
    exif[0x0112] = 6
    for data in (encode(scene(400, 320)), encode(scene(320, 400), exif=exif), encode(scene(400, 320), "PNG")):
        decode_scaled(data, "x", 16, lambda *size: sizes.append(size) or full_box(*size))
    assert set(sizes) == {(400, 320)}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_gives_the_upright_image(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(scene(48, 32), exif=exif)
    pixels, _ = decode_scaled(data, "x", 32, full_box)
    assert np.array_equal(pixels, np.asarray(decode_image(data, "x")))


def test_an_image_with_upright_orientation_may_be_decoded_smaller() -> None:
    exif = Image.Exif()
    exif[0x0112] = 1
    assert decode_scaled(encode(scene(400, 320), exif=exif), "x", 16, full_box)[0].shape == (40, 50, 3)


@pytest.mark.parametrize("format", ["PNG", "WEBP", "GIF", "BMP"])
def test_other_formats_are_decoded_at_full_size(format: str) -> None:
    data = encode(scene(400, 320), format)
    assert np.array_equal(decode_scaled(data, "x", 16, full_box)[0], np.asarray(decode_image(data, "x")))


@pytest.mark.parametrize("size", [8, 44])
@pytest.mark.parametrize("kind", KINDS)
def test_every_truncation_gives_the_error_of_decode_image(kind: str, size: int) -> None:
    """libjpeg would fill missing data with gray."""
    data = KINDS[kind]
    for cut in range(0, len(data), 3):
        assert scaled_outcome(data[:cut], size) == full_outcome(data[:cut])
    for cut in range(1, 20):
        assert scaled_outcome(data[:-cut], size) == full_outcome(data[:-cut])


@given(
    kind=st.sampled_from(sorted(KINDS)),
    changes=st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), min_size=1, max_size=6),
    size=st.sampled_from([8, 20, 44]),
)
def test_damaged_files_give_the_result_of_decode_image(kind, changes, size) -> None:
    data = bytearray(KINDS[kind])
    for offset, value in changes:
        data[offset % len(data)] = value
    assert scaled_outcome(bytes(data), size) == full_outcome(bytes(data))


def test_files_with_libjpeg_warnings_are_decoded_by_pillow() -> None:
    data = KINDS["4:2:0"]
    odd = data[:-2] + b"\0" * 40 + data[-2:]
    assert np.array_equal(decode_scaled(odd, "x", 8, full_box)[0], np.asarray(decode_image(odd, "x")))


def test_the_pixel_limit_is_an_argument() -> None:
    with pytest.raises(BadSample, match="too many pixels"):
        decode_scaled(BIG, "x", 16, full_box, max_pixels=1000)
