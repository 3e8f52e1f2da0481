"""Random distortions that near duplicates have, to train a duplicate detector.

They are those of CLIP's appendix C (crop, aspect ratio, resampling filter, mirroring, rotation, JPEG quality, hue,
saturation and brightness), and grayscale and borders.
"""

import io
import math

import numpy as np
from PIL import Image, ImageOps

RESAMPLING_FILTERS = (
    Image.Resampling.NEAREST,
    Image.Resampling.BILINEAR,
    Image.Resampling.BICUBIC,
    Image.Resampling.LANCZOS,
    Image.Resampling.BOX,
)
MIN_CROP_AREA = 0.4
MAX_RATIO_CHANGE = 4 / 3
MAX_ROTATION_DEGREES = 15.0
JPEG_QUALITY_RANGE = (20, 96)
MAX_HUE_SHIFT, MIN_COLOR_FACTOR = 12, 0.7
"""Hue shifts by at most this many of 256 steps; saturation and value are multiplied by 0.7 to 1/0.7."""
GRAY_PROBABILITY, BORDER_PROBABILITY = 0.2, 0.1
MAX_BORDER = 0.15
"""Widest border of a side, as a fraction of the image."""


def distort_image(image: Image.Image, size: int, rng: np.random.Generator) -> Image.Image:
    """Return an RGB image of `size` × `size` pixels with a random subset of the distortions."""
    image = image.convert("RGB")
    if rng.random() < 0.5:
        image = ImageOps.mirror(image)
    if rng.random() < 0.5:
        image = image.rotate(float(rng.uniform(-MAX_ROTATION_DEGREES, MAX_ROTATION_DEGREES)), Image.Resampling.BILINEAR)
    kernel = RESAMPLING_FILTERS[rng.integers(len(RESAMPLING_FILTERS))]
    image = image.resize((size, size), kernel, box=_sample_crop_box(*image.size, rng))
    if rng.random() < 0.5:
        image = _jitter_color(image, rng)
    if rng.random() < GRAY_PROBABILITY:
        image = image.convert("L").convert("RGB")
    if rng.random() < BORDER_PROBABILITY:
        image = _add_border(image, rng)
    if rng.random() < 0.8:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=int(rng.integers(*JPEG_QUALITY_RANGE)))
        image = Image.open(buffer).convert("RGB")
    return image


def _sample_crop_box(width: int, height: int, rng: np.random.Generator) -> tuple[float, float, float, float]:
    area = width * height * rng.uniform(MIN_CROP_AREA, 1.0)
    aspect = MAX_RATIO_CHANGE ** rng.uniform(-1.0, 1.0) * width / height
    w, h = min(width, math.sqrt(area * aspect)), min(height, math.sqrt(area / aspect))
    left, top = rng.uniform(0, width - w), rng.uniform(0, height - h)
    return left, top, left + w, top + h


def _jitter_color(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    hsv = np.asarray(image.convert("HSV")).astype(np.float32)
    hsv[..., 0] = (hsv[..., 0] + rng.uniform(-MAX_HUE_SHIFT, MAX_HUE_SHIFT)) % 256
    hsv[..., 1:] *= MIN_COLOR_FACTOR ** rng.uniform(-1.0, 1.0, 2)
    return Image.fromarray(hsv.clip(0, 255).astype(np.uint8), "HSV").convert("RGB")


def _add_border(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    left, top, right, bottom = (round(float(width) * image.width) for width in rng.uniform(0, MAX_BORDER, 4))
    gray = (0, 255, int(rng.integers(256)))[rng.integers(3)]
    bordered = Image.new("RGB", image.size, (gray, gray, gray))
    inner = image.resize((image.width - left - right, image.height - top - bottom), Image.Resampling.BILINEAR)
    bordered.paste(inner, (left, top))
    return bordered
