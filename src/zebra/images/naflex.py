"""NaFlex: images of any aspect ratio as sequences of patches.

Paper: SigLIP 2, arXiv 2502.14786, §2.4.2. Reference for grids and the order of values: `Siglip2ImageProcessor` of
transformers 5.24; its search for the scale is also that of big_vision and of timm 1.0.31.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from zebra.values import PatchBatch

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


def cut_patches(image_3HW: Tensor, patch_size: int) -> Tensor:
    """Cut an image whose sides are whole numbers of patches into patches [P, side · side · 3]."""
    _, height, width = image_3HW.shape
    rows, columns = height // patch_size, width // patch_size
    blocks = image_3HW.permute(1, 2, 0).reshape(rows, patch_size, columns, patch_size * 3)
    return blocks.transpose(1, 2).reshape(rows * columns, -1)


def group_by_length(
    images: Iterable[Tensor], patch_size: int, max_tokens: int | None = None
) -> tuple[Tensor, list[PatchBatch]]:
    """Split images into batches of equally many patches, which need no padding.

    Args:
        images: uint8 [3, H, W], of any shapes.
        max_tokens: Largest number of patches of a batch of more than one image; None: no limit.

    Returns:
        The index that restores the order of the images in the concatenated batches, int64 [N], and the batches.
    """
    images = list(images)
    rows_by_length: defaultdict[int, list[int]] = defaultdict(list)
    for row, image in enumerate(images):
        rows_by_length[image.shape[1] * image.shape[2] // patch_size**2].append(row)
    parts: list[list[int]] = []
    for length, rows in rows_by_length.items():
        step = len(rows) if max_tokens is None else max(1, max_tokens // length)
        parts += [rows[start : start + step] for start in range(0, len(rows), step)]
    order_N = torch.tensor([row for part in parts for row in part], dtype=torch.int64).argsort()
    return order_N, [stack_patches([images[row] for row in part], patch_size) for part in parts]


def stack_patches(images: Sequence[Tensor], patch_size: int) -> PatchBatch:
    """Return one batch of images [3, H, W], padded to the largest number of patches."""
    patches = [cut_patches(image, patch_size) for image in images]
    grid_B2 = torch.tensor([[side // patch_size for side in image.shape[1:]] for image in images])
    counts = [len(patches_PI) for patches_PI in patches]
    length = max(counts)
    if min(counts) == length:
        return PatchBatch(torch.stack(patches), grid_B2)
    padded = [F.pad(patches_PI, (0, 0, 0, length - len(patches_PI))) for patches_PI in patches]
    return PatchBatch(torch.stack(padded), grid_B2, torch.arange(length) < torch.tensor(counts)[:, None])
