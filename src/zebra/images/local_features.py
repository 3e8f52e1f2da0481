"""Local features: corners at several scales, with words that crops share.

A feature is a corner (Förstner and Gülch 1987) in one level of a scale pyramid. Its word has the signs of the lowest
frequencies of the patch around it, like a perceptual hash of the patch. Equal words in two images, with corners that
one scale and one shift map onto each other, make it likely that one image is a crop of the other. Rotation and
mirroring change the words.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

FEATURE_SIDE = 192
"""Longer side of an image in the finest level, and the unit of coordinates, in pixels."""
LEVEL_RATIO = 2**0.25
NUM_LEVELS = 7
"""Levels of the pyramid: a crop to 0.5 of the side still has two levels with the scale of the original's finest."""
PATCH_SIDE, WORD_BITS = 16, 24
CORNER_RADIUS = 4
"""A corner is the strongest within this many pixels."""
MIN_CORNER_STRENGTH = 1.0
"""Weakest corner: harmonic mean of the variances of the gradient along its principal axes, of 256 gray values."""
FEATURE_DTYPE = np.dtype([("word", "<u4"), ("x", "<f2"), ("y", "<f2"), ("level", "u1")])
"""Word, coordinates of the corner as if the longer side had FEATURE_SIDE pixels, and level, 0 the finest."""


def compute_local_features(image: Image.Image) -> NDArray[np.void]:
    """Return the features of an image from `decode_image`, [K] of FEATURE_DTYPE; K is 0 for a smooth image."""
    gray = image.convert("L")
    parts = [np.zeros(0, FEATURE_DTYPE)]
    for level in range(NUM_LEVELS):
        factor = FEATURE_SIDE / max(gray.size) / LEVEL_RATIO**level
        size = (max(1, round(gray.width * factor)), max(1, round(gray.height * factor)))
        if min(size) <= PATCH_SIDE:
            break
        pixels_HW = np.asarray(gray.resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0), np.float32)
        row_K, column_K = _find_corners(pixels_HW)
        part = np.zeros(len(row_K), FEATURE_DTYPE)
        part["word"] = _compute_words(pixels_HW, row_K, column_K)
        part["x"], part["y"] = (column_K + 0.5) / size[0], (row_K + 0.5) / size[1]
        part["x"] *= gray.width * FEATURE_SIDE / max(gray.size)
        part["y"] *= gray.height * FEATURE_SIDE / max(gray.size)
        part["level"] = level
        parts.append(part)
    return np.concatenate(parts)


def _find_corners(pixels_HW: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows and columns of local maxima of the corner strength that have a whole patch around them."""
    dx_HW, dy_HW = np.zeros_like(pixels_HW), np.zeros_like(pixels_HW)
    dx_HW[:, 1:-1] = (pixels_HW[:, 2:] - pixels_HW[:, :-2]) / 2
    dy_HW[1:-1] = (pixels_HW[2:] - pixels_HW[:-2]) / 2
    xx_HW, yy_HW, xy_HW = (
        ndimage.gaussian_filter(product_HW, 1.5, mode="nearest", truncate=2.0)
        for product_HW in (dx_HW * dx_HW, dy_HW * dy_HW, dx_HW * dy_HW)
    )
    strength_HW = (xx_HW * yy_HW - xy_HW * xy_HW) / (xx_HW + yy_HW + 1e-3)
    is_corner_HW = strength_HW == ndimage.maximum_filter(strength_HW, 2 * CORNER_RADIUS + 1)
    is_corner_HW &= strength_HW > MIN_CORNER_STRENGTH
    half = PATCH_SIDE // 2
    row_K, column_K = np.nonzero(is_corner_HW[half:-half, half:-half])
    return row_K + half, column_K + half


def _compute_words(
    pixels_HW: NDArray[np.float32], row_K: NDArray[np.int64], column_K: NDArray[np.int64]
) -> NDArray[np.uint32]:
    windows = np.lib.stride_tricks.sliding_window_view(pixels_HW, (PATCH_SIDE, PATCH_SIDE))
    half = PATCH_SIDE // 2
    patch_KP = windows[row_K - half, column_K - half].reshape(-1, PATCH_SIDE * PATCH_SIDE)
    bits_KB = patch_KP @ _BASIS_PB > 0
    words: NDArray[np.uint32] = (bits_KB << np.arange(WORD_BITS, dtype=np.uint32)).sum(1, dtype=np.uint32)
    return words


def _low_frequencies() -> NDArray[np.float32]:
    """Return the DCT-II basis images of the lowest frequencies without the constant one, [256, 24]."""
    by_radius = sorted(((u, v) for u in range(8) for v in range(8)), key=lambda uv: (uv[0] ** 2 + uv[1] ** 2, uv))
    position = (np.arange(PATCH_SIDE) + 0.5) * np.pi / PATCH_SIDE
    images = [np.outer(np.cos(u * position), np.cos(v * position)) for u, v in by_radius[1 : WORD_BITS + 1]]
    return np.stack(images, axis=-1).reshape(-1, WORD_BITS).astype(np.float32)


_BASIS_PB = _low_frequencies()
