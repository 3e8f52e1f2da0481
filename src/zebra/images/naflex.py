"""NaFlex: batches of images of any aspect ratio as sequences of patches."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from zebra.images.patch_grid import cut_patches
from zebra.values import PatchBatch


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
