"""The size of a picture and chance in, a box out; pixels and the box in, a training crop out.

CLIP's only augmentation (§2.4).
"""

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
    """Return a box with a share of the area uniform in [min_area, 1] and a log-uniform ratio of sides in [3/4, 4/3].

    Images too elongated for it give their centre, cut to the nearest ratio allowed.

    Args:
        uniforms: Uniform in [0, 1), [tries, 4]; the first row whose box fits into the picture decides.
        min_area: In (0, 1]; 1 switches chance off and gives the centre square, which evaluation sees too.
    """
    if min_area == 1:
        return _center_box(width, height, 1.0)
    for share, stretch, x, y in uniforms.tolist():
        area = width * height * (min_area + share * (1 - min_area))
        aspect = MAX_CROP_RATIO ** (2 * stretch - 1)
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(x * (width - w + 1)), int(y * (height - h + 1))
            return left, top, left + w, top + h
    return _center_box(width, height, MAX_CROP_RATIO)


def crop_and_resize(pixels_HW3: NDArray[np.uint8], box: CropBox, size: int) -> Tensor:
    """Cut a box and resize it (bicubic, with antialiasing) to uint8 [3, size, size], channels last in memory.

    torch's kernel is that of Pillow, four times faster; they differ by one level in a few values of a thousand.
    """
    left, top, right, bottom = box
    # Copied, since torch would resize a view of a larger picture into planes, which takes longer.
    crop_1HW3 = pixels_HW3[None, top:bottom, left:right].copy()
    crop_13HW = torch.from_numpy(crop_1HW3).permute(0, 3, 1, 2)
    return F.interpolate(crop_13HW, (size, size), mode="bicubic", antialias=True)[0]


def _center_box(width: int, height: int, max_ratio: float) -> CropBox:
    """Return the largest centred box whose sides differ by at most the factor `max_ratio`."""
    w, h = min(width, round(height * max_ratio)), min(height, round(width * max_ratio))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h
