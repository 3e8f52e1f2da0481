"""A picture in; the same picture as a line drawing, with inverted colours or with noise, out."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from zebra.menagerie.rng import SampleRng

NOISE_STD = 32.0
"""Standard deviation of the noise, of 255."""


def to_sketch(image: Image.Image, _rng: SampleRng) -> Image.Image:
    """Keep only the lines, dark on white."""
    large = image.convert("L").resize((image.width * 2, image.height * 2), Image.Resampling.BICUBIC)
    lines = large.filter(ImageFilter.FIND_EDGES).crop((2, 2, large.width - 2, large.height - 2))
    # The first levels are the gradients of sky and ground, which nobody would draw.
    ink = ImageOps.invert(lines.point([min(255, max(0, 8 * (level - 6))) for level in range(256)]))
    return ink.resize(image.size, Image.Resampling.BOX).convert("RGB")


def invert_colors(image: Image.Image, _rng: SampleRng) -> Image.Image:
    """Replace every colour by its opposite."""
    return ImageOps.invert(image)


def add_noise(image: Image.Image, rng: SampleRng) -> Image.Image:
    """Add Gaussian noise to every channel."""
    pixels = np.asarray(image, dtype=np.float64)
    grain = rng.generator.normal(0.0, NOISE_STD, pixels.shape)
    return Image.fromarray(np.clip(np.rint(pixels + grain), 0, 255).astype(np.uint8))


DISTRIBUTION_SHIFTS: dict[str, Callable[[Image.Image, SampleRng], Image.Image]] = {
    "sketch": to_sketch,
    "inverted": invert_colors,
    "noisy": add_noise,
}
