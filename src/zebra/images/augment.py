"""Random square crops, the only augmentation of CLIP (§2.4)."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from zebra.images.jpeg import CropBox

MAX_CROP_RATIO = 4 / 3
NUM_CROP_ATTEMPTS = 10


def sample_crop_box(width: int, height: int, uniforms: NDArray[np.float64], min_area: float) -> CropBox:
    """Sample a box: area fraction uniform in [min_area, 1], aspect ratio log-uniform in [3/4, 4/3].

    If the image is too elongated for all attempts, return a center box with the nearest allowed ratio.

    Args:
        uniforms: Uniform in [0, 1), [attempts, 4]; the first row whose box fits into the image is used.
        min_area: In (0, 1]; 1 gives the center square, as in evaluation.
    """
    if min_area == 1:
        return _center_box(width, height, 1.0)
    for area_uniform, ratio_uniform, x, y in uniforms.tolist():
        area = width * height * (min_area + area_uniform * (1 - min_area))
        aspect = MAX_CROP_RATIO ** (2 * ratio_uniform - 1)
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(x * (width - w + 1)), int(y * (height - h + 1))
            return left, top, left + w, top + h
    return _center_box(width, height, MAX_CROP_RATIO)


def crop_and_resize(pixels_HW3: NDArray[np.uint8], box: CropBox, size: int) -> Tensor:
    """Crop a box and resize it (bicubic, antialiased) to uint8 [3, size, size], channels-last in memory.

    torch's kernel is that of Pillow and four times as fast; a few values in a thousand differ by one level.
    """
    left, top, right, bottom = box
    # Copy, because torch would resize a view of a larger image channels-first, which takes longer.
    crop_1HW3 = pixels_HW3[None, top:bottom, left:right].copy()
    crop_13HW = torch.from_numpy(crop_1HW3).permute(0, 3, 1, 2)
    return F.interpolate(crop_13HW, (size, size), mode="bicubic", antialias=True)[0]


def _center_box(width: int, height: int, max_ratio: float) -> CropBox:
    """Return the largest center box with sides that differ by at most the factor `max_ratio`."""
    w, h = min(width, round(height * max_ratio)), min(height, round(width * max_ratio))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h
