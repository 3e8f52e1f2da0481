"""Tests of the random distortions of the duplicate detector."""

import numpy as np
from PIL import Image

from zebra.images import distort
from zebra.images.distort import distort_image


def draw_image():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8))


def test_the_same_seed_gives_the_same_distortion():
    first, second = (distort_image(draw_image(), 32, np.random.default_rng(3)) for _ in range(2))
    assert first.size == (32, 32)
    assert first.tobytes() == second.tobytes()


def test_some_distorted_images_are_gray(monkeypatch):
    monkeypatch.setattr(distort, "JPEG_QUALITY_RANGE", (95, 96))
    rng = np.random.default_rng(0)
    pixels = [np.asarray(distort_image(draw_image(), 32, rng)).astype(int) for _ in range(100)]
    assert 10 <= sum(np.ptp(image_HWC, axis=2).max() <= 2 for image_HWC in pixels) <= 30


def test_some_distorted_images_have_a_border(monkeypatch):
    monkeypatch.setattr(distort, "MAX_ROTATION_DEGREES", 0.0)
    rng = np.random.default_rng(0)
    pixels = [np.asarray(distort_image(draw_image(), 32, rng)).astype(int) for _ in range(100)]
    assert 3 <= sum(min(np.ptp(image_HWC[0]), np.ptp(image_HWC[-1])) < 40 for image_HWC in pixels) <= 20
