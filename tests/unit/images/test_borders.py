"""Tests of the removal of uniform borders."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from zebra.images.borders import trim_borders


def draw_noise(seed=0, size=(60, 40)):
    """Draw large random pixels, which JPEG keeps."""
    pixels = np.random.default_rng(seed).integers(0, 256, (10, 10, 3), np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST)


@pytest.mark.parametrize("color", [(0, 0, 0), (255, 255, 255), (200, 30, 90)])
@pytest.mark.parametrize("border", [3, (20, 0), (0, 15), (1, 2, 30, 4), (0, 0, 0, 9)])
def test_a_border_of_one_color_is_removed(border, color):
    image = draw_noise()
    assert trim_borders(ImageOps.expand(image, border, color)).tobytes() == image.tobytes()


def test_borders_of_different_colors_are_removed():
    image = draw_noise()
    framed = ImageOps.expand(ImageOps.expand(image, (0, 7, 0, 0), (0, 0, 0)), (5, 0, 0, 0), (255, 255, 255))
    assert trim_borders(framed).tobytes() == image.tobytes()


def test_a_border_is_removed_after_jpeg_compression():
    buffer = io.BytesIO()
    ImageOps.expand(draw_noise(), 16, (255, 255, 255)).save(buffer, "JPEG", quality=60)
    width, height = trim_borders(Image.open(buffer)).size
    assert abs(width - 60) <= 8
    assert abs(height - 40) <= 8


@pytest.mark.parametrize("image", [Image.new("RGB", (50, 40), (9, 9, 9)), Image.new("L", (1, 1)), draw_noise()])
def test_an_image_without_a_border_or_without_content_is_returned_whole(image):
    assert trim_borders(image).tobytes() == image.convert("RGB").tobytes()


def test_content_too_small_to_compare_is_not_cut_out():
    image = ImageOps.expand(draw_noise(size=(60, 5)), 30, (255, 255, 255))
    assert trim_borders(image).size == image.size


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "CMYK"])
def test_images_of_any_mode_become_rgb(mode):
    assert trim_borders(draw_noise().convert(mode)).mode == "RGB"


@settings(deadline=None)  # the machine may be busy
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_trimming_twice_changes_nothing_more(width, height, seed):
    pixels = np.random.default_rng(seed).choice(np.array([0, 255], np.uint8), (height, width, 1), p=[0.9, 0.1])
    once = trim_borders(Image.fromarray(pixels.repeat(3, axis=2)))
    assert min(once.size) > 0
    assert trim_borders(once).size == once.size
