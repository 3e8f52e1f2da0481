"""Random crops, the only augmentation of CLIP (§2.4).

Squares, and for NaFlex crops that keep about the aspect ratio.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from zebra.images.jpeg import CropBox
from zebra.images.patch_grid import cut_patches, fit_grid
from zebra.images.preprocess import Preprocess
from zebra.values import PatchBatch

MAX_CROP_RATIO = 4 / 3
NUM_CROP_ATTEMPTS = 10
GRID_BYTES = 8
"""Rows and columns of patches, little-endian uint32, at the start of the array of a NaFlex image."""


@dataclass(frozen=True, slots=True)
class SquareCrop:
    """A random crop, resized to a square."""

    size: int
    """Side in pixels."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the uint8 array of one image."""
        return self.size, self.size, 3

    def sample_box(self, width: int, height: int, uniforms: NDArray[np.float64], min_area: float) -> CropBox:
        """Sample a box; see `sample_crop_box`."""
        return sample_crop_box(width, height, uniforms, min_area)

    def min_shorter_side(self, _width: int, _height: int) -> int:
        """Return how many pixels of the shorter side of a crop are needed."""
        return self.size

    def write(self, pixels_HW3: NDArray[np.uint8], box: CropBox, out: NDArray[np.uint8]) -> None:
        """Write the resized crop into `out`."""
        torch.from_numpy(out).permute(2, 0, 1).copy_(crop_and_resize(pixels_HW3, box, self.size))

    def to_batch(self, images: NDArray[np.uint8]) -> Tensor:
        """Return the images [B, *shape] as uint8 [B, 3, H, W]."""
        return torch.from_numpy(images).permute(0, 3, 1, 2)


@dataclass(frozen=True, slots=True)
class PatchCrop:
    """A random crop of about the image's aspect ratio, resized to a grid of patches."""

    patch_size: int
    """Patch side in pixels."""
    max_num_patches: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the uint8 array of one image: its grid, and its patches with zeros after them."""
        return (GRID_BYTES + self.max_num_patches * 3 * self.patch_size**2,)

    def sample_box(self, width: int, height: int, uniforms: NDArray[np.float64], min_area: float) -> CropBox:
        """Sample a box; see `sample_similar_box`."""
        return sample_similar_box(width, height, uniforms, min_area)

    def min_shorter_side(self, width: int, height: int) -> int:
        """Return how many pixels of the shorter side of a crop are needed."""
        rows, columns = self._grid(width, height)
        return math.ceil(min(width, height) * self.patch_size * max(rows / height, columns / width))

    def write(self, pixels_HW3: NDArray[np.uint8], box: CropBox, out: NDArray[np.uint8]) -> None:
        """Write grid and patches of the resized crop into `out`."""
        left, top, right, bottom = box
        grid = self._grid(right - left, bottom - top)
        rows, columns = grid
        resized = crop_and_resize(pixels_HW3, box, (rows * self.patch_size, columns * self.patch_size))
        patches = cut_patches(resized, self.patch_size).flatten().numpy()
        out[:GRID_BYTES] = np.array(grid, "<u4").view(np.uint8)
        out[GRID_BYTES : GRID_BYTES + len(patches)] = patches
        out[GRID_BYTES + len(patches) :] = 0

    def to_batch(self, images: NDArray[np.uint8]) -> PatchBatch:
        """Return the images [B, *shape] as patches; the mask is there in any case, so that every batch has one form."""
        grid_B2 = torch.from_numpy(images[:, :GRID_BYTES].copy().view("<u4").astype(np.int64))
        patches_BPI = torch.from_numpy(images[:, GRID_BYTES:].reshape(len(images), self.max_num_patches, -1))
        return PatchBatch(patches_BPI, grid_B2, torch.arange(self.max_num_patches) < grid_B2.prod(dim=1, keepdim=True))

    def _grid(self, width: int, height: int) -> tuple[int, int]:
        return fit_grid(width, height, patch_size=self.patch_size, max_num_patches=self.max_num_patches)


def patch_crop(preprocess: Preprocess) -> PatchCrop | None:
    """Return the crop of training images for NaFlex; None for a fixed size."""
    if preprocess.patch_size is None or preprocess.max_num_patches is None:
        return None
    return PatchCrop(preprocess.patch_size, preprocess.max_num_patches)


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


def sample_similar_box(width: int, height: int, uniforms: NDArray[np.float64], min_area: float) -> CropBox:
    """Sample a box: area fraction uniform in [min_area, 1], aspect ratio log-uniform in [3/4, 4/3] of the image's.

    If no attempt fits into the image, return the full image.

    Args:
        uniforms: As in `sample_crop_box`.
        min_area: In (0, 1]; 1 gives the full image, as in evaluation.
    """
    if min_area < 1:
        for area_uniform, ratio_uniform, x, y in uniforms.tolist():
            area = min_area + area_uniform * (1 - min_area)
            aspect = MAX_CROP_RATIO ** (2 * ratio_uniform - 1)
            w, h = round(width * math.sqrt(area * aspect)), round(height * math.sqrt(area / aspect))
            if 0 < w <= width and 0 < h <= height:
                left, top = int(x * (width - w + 1)), int(y * (height - h + 1))
                return left, top, left + w, top + h
    return 0, 0, width, height


def crop_and_resize(pixels_HW3: NDArray[np.uint8], box: CropBox, size: int | tuple[int, int]) -> Tensor:
    """Crop a box and resize it (bicubic, antialiased) to uint8 [3, H, W], channels-last in memory.

    torch's kernel is that of Pillow and four times as fast; a few values in a thousand differ by one level.

    Args:
        size: Side of a square, or height and width.
    """
    left, top, right, bottom = box
    # Copy, because torch would resize a view of a larger image channels-first, which takes longer.
    crop_1HW3 = pixels_HW3[None, top:bottom, left:right].copy()
    crop_13HW = torch.from_numpy(crop_1HW3).permute(0, 3, 1, 2)
    return F.interpolate(crop_13HW, size, mode="bicubic", antialias=True)[0]


def _center_box(width: int, height: int, max_ratio: float) -> CropBox:
    """Return the largest center box with sides that differ by at most the factor `max_ratio`."""
    w, h = min(width, round(height * max_ratio)), min(height, round(width * max_ratio))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h
