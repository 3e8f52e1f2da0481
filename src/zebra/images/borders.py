"""Removal of uniform borders, such as letterboxes and frames."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

BORDER_TOLERANCE = 16
"""Largest difference in luma (0 to 255) from the border; JPEG adds noise."""
MIN_CONTENT_SIDE = 16
"""Smallest width and height in pixels that trimming may leave."""


def trim_borders(image: Image.Image) -> Image.Image:
    """Return an RGB image without the rows and columns of one color at its edges.

    Each edge may have its own color. Colors are compared by luma, so that a gray copy has the same borders. An image
    that would shrink to less than 16 pixels on a side, such as one of a single color, is returned whole.
    """
    image = image.convert("RGB")
    luma_HW = np.asarray(image.convert("L")).astype(np.int16)
    left, top, right, bottom = 0, 0, image.width, image.height
    while True:  # a border beside another one has a single color only when the other one is gone
        content_HW = luma_HW[top:bottom, left:right]
        above, below = _count_border_lines(content_HW)
        before, behind = _count_border_lines(content_HW.T)
        if not (above or below or before or behind):
            return image.crop((left, top, right, bottom))
        left, top, right, bottom = left + before, top + above, right - behind, bottom - below
        if min(right - left, bottom - top) < MIN_CONTENT_SIDE:
            return image


def _count_border_lines(luma_LW: NDArray[np.int16]) -> tuple[int, int]:
    """Return the numbers of lines of one color at the start and at the end."""
    counts = []
    for lines_LW in (luma_LW, luma_LW[::-1]):
        border = np.median(lines_LW[0])
        is_border_L = (np.abs(lines_LW - border) <= BORDER_TOLERANCE).all(axis=1)
        counts.append(len(lines_LW) if is_border_L.all() else int(is_border_L.argmin()))
    return counts[0], counts[1]
