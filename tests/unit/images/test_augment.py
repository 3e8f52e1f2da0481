"""Random crop boxes, and crops resized from them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from zebra.images.augment import NUM_CROP_ATTEMPTS, crop_and_resize, sample_crop_box


def uniforms(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((NUM_CROP_ATTEMPTS, 4))


def noise(width: int, height: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@given(seed=st.integers(0, 10_000), min_area=st.sampled_from([0.25, 0.5, 0.9]))
def test_area_and_aspect_stay_in_their_ranges(seed: int, min_area: float) -> None:
    left, top, right, bottom = sample_crop_box(240, 240, uniforms(seed), min_area)
    width, height = right - left, bottom - top
    assert min_area * 240 * 240 * 0.99 <= width * height
    assert 0.74 <= width / height <= 1.35


@given(seed=st.integers(0, 300), width=st.integers(8, 160), height=st.integers(8, 160))
def test_a_box_is_inside_any_image(seed: int, width: int, height: int) -> None:
    left, top, right, bottom = sample_crop_box(width, height, uniforms(seed), 0.9)
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height


@pytest.mark.parametrize(("uniform", "left", "right"), [(0.0, 0, 71), (0.5, 15, 86), (0.999, 29, 100)])
def test_boxes_reach_from_edge_to_edge(uniform: float, left: int, right: int) -> None:
    uniforms_14 = np.array([[0.0, 0.5, uniform, uniform]])
    assert sample_crop_box(100, 100, uniforms_14, 0.5) == (left, left, right, right)


def test_a_minimum_area_of_one_gives_the_center_square() -> None:
    assert sample_crop_box(200, 100, uniforms(0), 1.0) == (50, 0, 150, 100)


@pytest.mark.parametrize(("size", "box"), [((240, 24), (104, 0, 136, 24)), ((24, 240), (0, 104, 24, 136))])
def test_an_elongated_image_gives_a_center_box(size: tuple[int, int], box: tuple[int, ...]) -> None:
    """An image of 24 × 240 has no box with 90 % of its area and a ratio of at most 4:3."""
    assert sample_crop_box(*size, uniforms(0), 0.9) == box


def test_a_crop_is_a_writable_square_of_the_requested_size() -> None:
    crop = crop_and_resize(noise(30, 20), (3, 2, 25, 20), 24)
    assert crop.shape == (3, 24, 24)
    assert crop.numpy().dtype == np.uint8
    assert crop.numpy().flags.writeable


def test_a_crop_without_resize_has_the_pixels_of_the_box() -> None:
    pixels = noise(40, 30)
    assert np.array_equal(crop_and_resize(pixels, (5, 3, 25, 23), 20).permute(1, 2, 0), pixels[3:23, 5:25])


def test_a_read_only_image_can_be_cropped() -> None:
    pixels = noise(8, 8)
    pixels.flags.writeable = False
    assert np.array_equal(crop_and_resize(pixels, (0, 0, 8, 8), 8).permute(1, 2, 0), pixels)


@pytest.mark.parametrize("side", [8, 24, 40, 200, 1500])
def test_a_resized_crop_differs_from_pillow_by_at_most_one_level(side: int) -> None:
    """torch uses 16-bit weights and Pillow 22 bits; noise is the worst case."""
    image = Image.fromarray(noise(side + 9, side + 5))
    box = (4, 2, side + 4, side + 2)
    expected = np.asarray(image.crop(box).resize((24, 24), Image.Resampling.BICUBIC)).astype(int)
    difference = np.abs(crop_and_resize(np.asarray(image), box, 24).permute(1, 2, 0).numpy() - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.02
