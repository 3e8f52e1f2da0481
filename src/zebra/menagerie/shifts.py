"""Distribution shifts: line drawing, inverted colors, noise."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from zebra.menagerie.rng import SampleRng

NOISE_STD = 32.0
"""Standard deviation of the noise, in pixel values of 0 to 255."""


def to_sketch(image: Image.Image, _rng: SampleRng) -> Image.Image:
    """Return the edges as dark lines on white."""
    large = image.convert("L").resize((image.width * 2, image.height * 2), Image.Resampling.BICUBIC)
    lines = large.filter(ImageFilter.FIND_EDGES).crop((2, 2, large.width - 2, large.height - 2))
    # The lowest levels are the gradients of sky and ground, which no sketch shows.
    ink = ImageOps.invert(lines.point([min(255, max(0, 8 * (level - 6))) for level in range(256)]))
    return ink.resize(image.size, Image.Resampling.BOX).convert("RGB")


def invert_colors(image: Image.Image, _rng: SampleRng) -> Image.Image:
    """Return the image with inverted colors."""
    return ImageOps.invert(image)


def add_noise(image: Image.Image, rng: SampleRng) -> Image.Image:
    """Return the image with Gaussian noise in every channel."""
    pixels = np.asarray(image, dtype=np.float64)
    grain = rng.generator.normal(0.0, NOISE_STD, pixels.shape)
    return Image.fromarray(np.clip(np.rint(pixels + grain), 0, 255).astype(np.uint8))


DISTRIBUTION_SHIFTS: dict[str, Callable[[Image.Image, SampleRng], Image.Image]] = {
    "sketch": to_sketch,
    "inverted": invert_colors,
    "noisy": add_noise,
}
