"""The 1,797 handwritten digits that come with scikit-learn: dark ink on light paper, 96 × 96 pixels."""

from collections.abc import Iterator

import numpy as np
from PIL import Image

PAPER, INK = (248, 246, 240), (28, 28, 44)


def handwritten_digits(side: int = 96) -> Iterator[tuple[Image.Image, int]]:
    """Yield every scanned digit, scaled up from 8 × 8 pixels, with its class."""
    from sklearn.datasets import load_digits

    scans = load_digits()
    border = side // 8
    for scan, digit in zip(scans.images, scans.target, strict=True):
        ink = Image.fromarray(np.rint(scan * (255 / 16)).astype(np.uint8))
        page = Image.new("RGB", (side, side), PAPER)
        large = ink.resize((side - 2 * border, side - 2 * border), Image.Resampling.BICUBIC)
        page.paste(INK, (border, border), large)
        yield page, int(digit)
