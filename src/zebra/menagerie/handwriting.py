"""The 1,797 handwritten digits of scikit-learn, as dark ink on light paper."""

from collections.abc import Iterator

import numpy as np
from PIL import Image

PAPER_COLOR, INK_COLOR = (248, 246, 240), (28, 28, 44)


def iter_handwritten_digits() -> Iterator[tuple[Image.Image, int]]:
    """Yield each digit, upsampled from 8 × 8 pixels, with its label."""
    from sklearn.datasets import load_digits

    scans = load_digits()
    for scan, digit in zip(scans.images, scans.target, strict=True):
        ink = Image.fromarray(np.rint(scan * (255 / 16)).astype(np.uint8))
        page = Image.new("RGB", (96, 96), PAPER_COLOR)
        page.paste(INK_COLOR, (12, 12), ink.resize((72, 72), Image.Resampling.BICUBIC))
        yield page, int(digit)
