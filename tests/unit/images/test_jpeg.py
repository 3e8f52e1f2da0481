"""Decoding for a crop gives what decoding gives: the same pixels, the same pictures refused, only smaller if it may."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from zebra.errors import BadSample
from zebra.images import jpeg
from zebra.images.decode import decode_image
from zebra.images.jpeg import decode_scaled


def encoded(image: Image.Image, format: str = "JPEG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def scene(width: int, height: int, seed: int = 0) -> Image.Image:
    """Edges, flat parts and soft ones."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8))
    image = coarse.resize((width, height), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for _ in range(6):
        x, y = rng.integers(0, width), rng.integers(0, height)
        draw.ellipse((x, y, x + width // 3, y + height // 4), fill=tuple(rng.integers(0, 256, 3).tolist()))
    return image


def whole(width: int, height: int) -> jpeg.CropBox:
    return 0, 0, width, height


def whole_outcome(data: bytes) -> str:
    """Say whether `decode` takes a picture, or why not, in every word."""
    try:
        decode_image(data, "x")
    except BadSample as bad:
        return str(bad)
    return "taken"


def scaled_outcome(data: bytes, size: int) -> str:
    try:
        decode_scaled(data, "x", size, whole)
    except BadSample as bad:
        return str(bad)
    return "taken"


KINDS = {
    "4:4:4": encoded(scene(60, 44), subsampling=0),
    "4:2:2": encoded(scene(60, 44), subsampling=1),
    "4:2:0": encoded(scene(60, 44), subsampling=2),
    "progressive": encoded(scene(60, 44), progressive=True),
    "gray": encoded(scene(60, 44).convert("L")),
    "progressive gray": encoded(scene(60, 44).convert("L"), progressive=True),
    "restart markers": encoded(scene(60, 44), restart_marker_blocks=3),
    "stored as RGB": encoded(scene(60, 44), keep_rgb=True),
    "CMYK": encoded(scene(60, 44).convert("CMYK")),
}


@pytest.mark.parametrize("kind", KINDS)
def test_whole_pictures_have_the_pixels_of_decode(kind: str) -> None:
    pixels, box = decode_scaled(KINDS[kind], "x", 44, whole)
    assert np.array_equal(pixels, np.asarray(decode_image(KINDS[kind], "x")))
    assert box == (0, 0, 60, 44)


@given(
    width=st.integers(8, 90), height=st.integers(8, 90), quality=st.integers(20, 98), seed=st.integers(0, 99)
)
@settings(max_examples=60, deadline=None)
def test_whole_pictures_of_any_size_and_quality_have_the_pixels_of_decode(
    width, height, quality, seed
) -> None:
    data = encoded(scene(width, height, seed), quality=quality)
    pixels, _ = decode_scaled(data, "x", min(width, height), whole)
    assert np.array_equal(pixels, np.asarray(decode_image(data, "x")))


@pytest.mark.parametrize(
    ("crop", "factor"), [(31, 1), (32, 2), (63, 2), (64, 4), (127, 4), (128, 8), (200, 8), (400, 8)]
)
def test_the_smallest_scale_is_taken_that_leaves_the_crop_large_enough(crop: int, factor: int) -> None:
    data = encoded(scene(411, 405))
    pixels, box = decode_scaled(data, "x", 16, lambda _width, _height: (3, 2, 3 + crop, 2 + crop))
    assert pixels.shape == (-(-405 // factor), -(-411 // factor), 3)
    assert min(box[2] - box[0], box[3] - box[1]) >= 16


def test_the_crop_is_moved_to_the_nearest_pixel_of_the_smaller_picture() -> None:
    _, box = decode_scaled(BIG, "x", 16, lambda _width, _height: (5, 6, 85, 87))
    assert box == (1, 2, 21, 22)


def test_the_shorter_side_of_the_crop_decides() -> None:
    pixels, _ = decode_scaled(encoded(scene(400, 70)), "x", 32, whole)
    assert pixels.shape == (35, 200, 3)


@given(
    left=st.integers(0, 100), top=st.integers(0, 80), width=st.integers(16, 300), height=st.integers(16, 240)
)
@settings(max_examples=60, deadline=None)
def test_the_crop_lies_inside_at_any_scale_and_is_never_smaller_than_asked_for(
    left, top, width, height
) -> None:
    pixels, box = decode_scaled(
        BIG, "x", 16, lambda _width, _height: (left, top, min(401, left + width), min(321, top + height))
    )
    assert 0 <= box[0] <= box[2] - 16
    assert 0 <= box[1] <= box[3] - 16
    assert box[2] <= pixels.shape[1]
    assert box[3] <= pixels.shape[0]


BIG = encoded(scene(401, 321), quality=95)


@pytest.mark.parametrize("size", [25, 50, 100])
def test_a_smaller_picture_shows_the_same_in_the_same_place(size: int) -> None:
    """Each pixel of the crop is the mean of those it stands for, but for what JPEG's DCT leaves out."""
    draw = 64, 32, 64 + 8 * size // (size // 25), 32 + 8 * size // (size // 25)
    pixels, (left, top, right, bottom) = decode_scaled(BIG, "x", size, lambda _width, _height: draw)
    factor = (draw[2] - draw[0]) // (right - left)
    assert factor == 200 // size
    shown = pixels[top:bottom, left:right].astype(float)
    full = np.asarray(decode_image(BIG, "x"))[draw[1] : draw[3], draw[0] : draw[2]]
    means = full.reshape(bottom - top, factor, right - left, factor, 3).mean(axis=(1, 3))
    assert np.abs(shown - means).mean() < 2


def test_the_crop_is_drawn_from_the_size_of_the_whole_upright_picture() -> None:
    asked = []
    exif = Image.Exif()
    exif[0x0112] = 6
    for data in (
        encoded(scene(400, 320)),
        encoded(scene(320, 400), exif=exif),
        encoded(scene(400, 320), "PNG"),
    ):
        decode_scaled(data, "x", 16, lambda *size: asked.append(size) or whole(*size))
    assert set(asked) == {(400, 320)}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_gives_the_upright_picture(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(scene(48, 32), exif=exif)
    pixels, _ = decode_scaled(data, "x", 32, whole)
    assert np.array_equal(pixels, np.asarray(decode_image(data, "x")))


def test_a_picture_that_says_it_is_upright_may_be_decoded_smaller() -> None:
    exif = Image.Exif()
    exif[0x0112] = 1
    assert decode_scaled(encoded(scene(400, 320), exif=exif), "x", 16, whole)[0].shape == (40, 50, 3)


@pytest.mark.parametrize("format", ["PNG", "WEBP", "GIF", "BMP"])
def test_other_formats_are_decoded_whole(format: str) -> None:
    data = encoded(scene(400, 320), format)
    assert np.array_equal(decode_scaled(data, "x", 16, whole)[0], np.asarray(decode_image(data, "x")))


@pytest.mark.parametrize("size", [8, 44])
@pytest.mark.parametrize("kind", KINDS)
def test_every_truncation_is_refused_in_the_words_of_decode(kind: str, size: int) -> None:
    """libjpeg would fill what is missing with gray."""
    data = KINDS[kind]
    for cut in range(0, len(data), 3):
        assert scaled_outcome(data[:cut], size) == whole_outcome(data[:cut])
    for cut in range(1, 20):
        assert scaled_outcome(data[:-cut], size) == whole_outcome(data[:-cut])


@settings(max_examples=400, deadline=None)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    changes=st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), min_size=1, max_size=6),
    size=st.sampled_from([8, 20, 44]),
)
def test_damage_is_taken_or_refused_as_decode_does(kind, changes, size) -> None:
    data = bytearray(KINDS[kind])
    for place, value in changes:
        data[place % len(data)] = value
    assert scaled_outcome(bytes(data), size) == whole_outcome(bytes(data))


def test_what_libjpeg_warns_of_but_pillow_takes_is_taken_as_pillow_takes_it() -> None:
    data = KINDS["4:2:0"]
    odd = data[:-2] + b"\0" * 40 + data[-2:]
    assert np.array_equal(decode_scaled(odd, "x", 8, whole)[0], np.asarray(decode_image(odd, "x")))


def test_the_limit_on_pixels_is_the_callers() -> None:
    with pytest.raises(BadSample, match="too many pixels"):
        decode_scaled(BIG, "x", 16, whole, max_pixels=1000)
