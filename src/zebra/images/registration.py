"""Registration of images: whether a part of one shows the same as another one.

Two thumbnails are compared after the part has been moved and scaled to fit best (Lucas and Kanade 1981), apart from
brightness and contrast. They agree if nearly all blocks do, so that a changed word or face makes a difference.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

GRID_SIDE, BLOCK_SIDE = 48, 8
"""Points per side at which both images are compared, and points per side of a block."""
SMOOTHING = 1.25
"""Width of the filter in points; hides that resampling filters differ in the finest details."""
MAX_RESIDUAL = 8.0
"""Root mean square difference of a block, of 256 gray values, that always counts as equal: noise and JPEG artifacts."""
MAX_RELATIVE_RESIDUAL = 0.4
"""The same relative to the standard deviation of the block; 0.4 is a correlation of 0.92."""
MIN_GAIN, MAX_BRIGHTNESS_CHANGE = 0.5, 64.0
"""Smallest and, inverted, largest change of contrast, and largest change of the mean gray value, of 256."""
MAX_COLOR_DIFFERENCE = 14.0
"""Difference of a block's mean in a color channel, of 256 values."""
MIN_FIRST_CORRELATION, MIN_CORRELATION = 0.2, 0.8
"""Of the gray values before and after alignment; decides for images of low contrast, whose blocks all agree."""
MIN_AGREEING_BLOCKS = 0.95
NUM_STEPS = 8


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in fractions of an image's width and height; it may exceed the image a little."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def area(self) -> float:
        """Width × height as a fraction of the image."""
        return (self.right - self.left) * (self.bottom - self.top)


WHOLE = Box(0.0, 0.0, 1.0, 1.0)


def shows_same(
    first: Image.Image, second: Image.Image, first_box: Box = WHOLE, second_box: Box = WHOLE, *, any_color: bool = False
) -> bool:
    """Return whether a part of one RGB image shows the same as a part of another one.

    Args:
        first_box: Approximate part of the first image; it is moved and scaled to fit.
        second_box: Part of the second image.
        any_color: Compare gray values only, so that a gray copy counts as the same.
    """
    spread = tuple(map(max, _point_spread(first, first_box), _point_spread(second, second_box)))
    target_CGG = _sample(_channels(second), second_box, spread)
    pixels_CHW = _channels(first)
    if _correlate(_sample(pixels_CHW[3:], first_box, spread)[0], target_CGG[3]) < MIN_FIRST_CORRELATION:
        return False
    box = _align(pixels_CHW[3], target_CGG[3], first_box, spread)
    sampled_CGG = _sample(pixels_CHW, box, spread)
    gain, offset = _fit_brightness(sampled_CGG[3], target_CGG[3])
    brightness_change = abs(float(sampled_CGG[3].mean() - target_CGG[3].mean()))
    if not MIN_GAIN < gain < 1 / MIN_GAIN or brightness_change > MAX_BRIGHTNESS_CHANGE:
        return False
    if _correlate(sampled_CGG[3], target_CGG[3]) < MIN_CORRELATION:
        return False
    sampled_CGG = gain * sampled_CGG + offset
    residual_BB = np.sqrt(_block_mean((sampled_CGG[3] - target_CGG[3]) ** 2))
    deviation_BB = np.maximum(_block_deviation(sampled_CGG[3]), _block_deviation(target_CGG[3]))
    agrees_BB = residual_BB <= np.maximum(MAX_RESIDUAL, MAX_RELATIVE_RESIDUAL * deviation_BB)
    if not any_color:
        color_difference_CBB = np.abs(_block_mean(sampled_CGG[:3] - target_CGG[:3]))
        agrees_BB &= color_difference_CBB.max(axis=0) <= MAX_COLOR_DIFFERENCE
    return bool(agrees_BB.mean() >= MIN_AGREEING_BLOCKS)


def _align(gray_HW: NDArray[np.float32], target_GG: NDArray[np.float32], box: Box, spread: tuple[float, ...]) -> Box:
    """Return the box that minimizes the squared difference from the target, by Gauss-Newton steps."""
    fraction_G = (np.arange(GRID_SIDE, dtype=np.float32) + 0.5) / GRID_SIDE
    edges = np.array([box.left, box.right, box.top, box.bottom])
    best_error, best = np.inf, edges
    for _ in range(NUM_STEPS):
        sampled_GG = _sample(gray_HW[None], Box(edges[0], edges[2], edges[1], edges[3]), spread)[0]
        gain, offset = _fit_brightness(sampled_GG, target_GG)
        residual_GG = target_GG - gain * sampled_GG - offset
        error = float((residual_GG**2).sum())
        if error >= best_error:
            break
        best_error, best = error, edges
        dy_GG, dx_GG = np.gradient(gain * sampled_GG)
        columns = (
            dx_GG * (1 - fraction_G),
            dx_GG * fraction_G,
            dy_GG * (1 - fraction_G[:, None]),
            dy_GG * fraction_G[:, None],
        )
        jacobian_P4 = np.stack([column.ravel() for column in columns], axis=1)
        normal_44 = jacobian_P4.T @ jacobian_P4 + np.eye(4, dtype=np.float32)  # invertible for flat images too
        step = np.linalg.solve(normal_44, jacobian_P4.T @ residual_GG.ravel()) / GRID_SIDE
        size = np.repeat([edges[1] - edges[0], edges[3] - edges[2]], 2)
        edges = edges + np.clip(step, -0.1, 0.1) * size
    return Box(best[0], best[2], best[1], best[3])


def _channels(image: Image.Image) -> NDArray[np.float32]:
    """Return red, green, blue and luma, which a gray copy has in common with its original, [4, H, W]."""
    rgb = image.convert("RGB")
    return np.stack([np.asarray(channel, np.float32) for channel in (*rgb.split(), rgb.convert("L"))])


def _sample(pixels_CHW: NDArray[np.float32], box: Box, spread: tuple[float, ...]) -> NDArray[np.float32]:
    """Return a part of an image at GRID_SIDE × GRID_SIDE points, [C, G, G], smoothed over `spread` points."""
    _, height, width = pixels_CHW.shape
    row_GH = _triangle_weights(box.top * height, box.bottom * height, height, spread[1])
    column_GW = _triangle_weights(box.left * width, box.right * width, width, spread[0])
    return (row_GH @ pixels_CHW @ column_GW.T).astype(np.float32)


def _point_spread(image: Image.Image, box: Box) -> tuple[float, float]:
    """Return the width of the filter in x and y, in points; at least a pixel, the smoothness of a small image."""
    width, height = (box.right - box.left) * image.width, (box.bottom - box.top) * image.height
    return SMOOTHING * max(1.0, GRID_SIDE / width), SMOOTHING * max(1.0, GRID_SIDE / height)


def _triangle_weights(start: float, stop: float, size: int, spread: float) -> NDArray[np.float32]:
    scale = (stop - start) / GRID_SIDE
    center_G = start + (np.arange(GRID_SIDE) + 0.5) * scale
    center_G = center_G.clip(0.5, size - 0.5)
    weight_GS = np.maximum(0, 1 - np.abs(center_G[:, None] - np.arange(size) - 0.5) / max(scale * spread, 1.0))
    normalized_GS: NDArray[np.float32] = (weight_GS / weight_GS.sum(axis=1, keepdims=True)).astype(np.float32)
    return normalized_GS


def _fit_brightness(gray_GG: NDArray[np.float32], target_GG: NDArray[np.float32]) -> tuple[float, float]:
    """Return the gain and offset of the gray values with the least squared difference from the target."""
    deviation_GG = gray_GG - gray_GG.mean()
    variance = float((deviation_GG**2).mean())
    gain = float((deviation_GG * target_GG).mean()) / variance if variance > 1 else 1.0
    return gain, float(target_GG.mean()) - gain * float(gray_GG.mean())


def _correlate(first_GG: NDArray[np.float32], second_GG: NDArray[np.float32]) -> float:
    first, second = (values - values.mean() for values in (first_GG, second_GG))
    norm = float(np.sqrt((first**2).sum() * (second**2).sum()))
    return float((first * second).sum()) / norm if norm > 0 else 1.0


def _block_mean(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the mean of each block of [..., G, G]."""
    num_blocks = GRID_SIDE // BLOCK_SIDE
    blocks = values.reshape(*values.shape[:-2], num_blocks, BLOCK_SIDE, num_blocks, BLOCK_SIDE)
    mean: NDArray[np.float32] = blocks.mean(axis=(-3, -1))
    return mean


def _block_deviation(gray_GG: NDArray[np.float32]) -> NDArray[np.float32]:
    deviation_BB: NDArray[np.float32] = np.sqrt(np.maximum(0, _block_mean(gray_GG**2) - _block_mean(gray_GG) ** 2))
    return deviation_BB
