"""The 1,797 handwritten digits of scikit-learn, as dark ink on light paper."""

from collections.abc import Iterator

import numpy as np
from PIL import Image

PAPER_COLOR, INK_COLOR = (248, 246, 240), (28, 28, 44)


def iter_handwritten_digits(image_size: int = 96) -> Iterator[tuple[Image.Image, int]]:
    """Yield each digit, upsampled from 8 × 8 pixels, with its label."""
    from sklearn.datasets import load_digits

    scans = load_digits()
    border = image_size // 8
    for scan, digit in zip(scans.images, scans.target, strict=True):
        ink = Image.fromarray(np.rint(scan * (255 / 16)).astype(np.uint8))
        page = Image.new("RGB", (image_size, image_size), PAPER_COLOR)
        large = ink.resize((image_size - 2 * border, image_size - 2 * border), Image.Resampling.BICUBIC)
        page.paste(INK_COLOR, (border, border), large)
        yield page, int(digit)
