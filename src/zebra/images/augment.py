"""A decoded image and a random generator in, a training crop out: CLIP's only augmentation (§2.4)."""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zebra.images.preprocess import channels_first

MAX_STRETCH = 4 / 3
TRIES = 10

Box = tuple[int, int, int, int]


def random_crop(
    image: Image.Image, size: int, rng: np.random.Generator, min_area: float
) -> NDArray[np.uint8]:
    """Cut a random box and resize it (bicubic) to uint8 [3, size, size].

    The box covers a share of the area uniform in [min_area, 1], with an aspect ratio log-uniform in [3/4, 4/3].
    Images too elongated for it give their centre, cut to the nearest ratio allowed.

    Args:
        image: RGB.
        size: Side of the square returned, in pixels.
        min_area: In (0, 1]; 1 switches chance off and takes the centre square, which evaluation sees too.
    """
    box = _centre_box(*image.size, 1.0) if min_area == 1 else _random_box(*image.size, rng, min_area)
    return channels_first(image.resize((size, size), Image.Resampling.BICUBIC, box=box))


def _random_box(width: int, height: int, rng: np.random.Generator, min_area: float) -> Box:
    for share, stretch, x, y in rng.random((TRIES, 4)).tolist():
        area = width * height * (min_area + share * (1 - min_area))
        aspect = MAX_STRETCH ** (2 * stretch - 1)
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(x * (width - w + 1)), int(y * (height - h + 1))
            return left, top, left + w, top + h
    return _centre_box(width, height, MAX_STRETCH)


def _centre_box(width: int, height: int, max_stretch: float) -> Box:
    """Return the largest centred box whose sides differ by at most the factor `max_stretch`."""
    w, h = min(width, round(height * max_stretch)), min(height, round(width * max_stretch))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h
