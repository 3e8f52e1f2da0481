"""Grids of patches that keep the aspect ratio (NaFlex). Imports no torch.

Paper: SigLIP 2, arXiv 2502.14786, §2.4.2. Reference for grids and the order of values: `Siglip2ImageProcessor` of
transformers 5.24; its search for the scale is also that of big_vision and of timm 1.0.31.
"""

import math
from typing import TYPE_CHECKING, Any, TypeVar

from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

ArrayT = TypeVar("ArrayT", "Tensor", NDArray[Any])

SCALE_TOLERANCE = 1e-5
MIN_SCALE = SCALE_TOLERANCE / 10
MAX_SCALE = 100.0


def fit_grid(width: int, height: int, *, patch_size: int, max_num_patches: int) -> tuple[int, int]:
    """Return rows and columns of the largest grid of at most `max_num_patches` that keeps the aspect ratio.

    Each side is rounded up to a whole patch, so it has at least one. The scale is found by bisection up to a tolerance;
    an exact one would give other grids where a side is nearly a whole number of patches.

    >>> fit_grid(640, 480, patch_size=16, max_num_patches=256), fit_grid(3200, 16, patch_size=16, max_num_patches=256)
    ((14, 18), (1, 200))
    """

    def grid_at(scale: float) -> tuple[int, int]:
        rows, columns = (max(1, math.ceil(side * scale / patch_size)) for side in (height, width))
        return rows, columns

    low, high = MIN_SCALE, MAX_SCALE
    while high - low >= SCALE_TOLERANCE:
        middle = (low + high) / 2
        if math.prod(grid_at(middle)) <= max_num_patches:
            low = middle
        else:
            high = middle
    return grid_at(low)


def cut_patches(image_3HW: ArrayT, patch_size: int) -> ArrayT:
    """Cut an image whose sides are whole numbers of patches into patches [P, side · side · 3]."""
    _, height, width = image_3HW.shape
    rows, columns = height // patch_size, width // patch_size
    image_HW3 = image_3HW.swapaxes(0, 1).swapaxes(1, 2)
    blocks = image_HW3.reshape(rows, patch_size, columns, patch_size * 3)
    return blocks.swapaxes(1, 2).reshape(rows * columns, patch_size**2 * 3)
