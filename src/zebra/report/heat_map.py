"""Heat maps drawn over their image, as PNG files and HTML pages."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zebra.report.page import Section, write_page

SHOWN_SIDE = 480
"""Longer side of a drawn image in pixels."""
HOT_COLOR, COLD_COLOR = (232, 89, 12), (28, 86, 200)
"""Colors of cells that raise and lower the cosine; also told apart with any color blindness."""
MAX_OPACITY = 0.85
GAMMA = 0.75
"""Power of the opacity; below 1, small values are easier to see."""
MIN_GRAY = 72
"""The image below the colors is gray, and its black this light, out of 255."""


@dataclass(frozen=True, slots=True)
class HeatMaps:
    """The heat maps of an image, one per text."""

    image: Image.Image
    """The whole image, upright."""
    box: tuple[float, float, float, float]
    """Left, top, right and bottom of what the model sees, in pixels of the image."""
    texts: tuple[str, ...]
    cosines: tuple[float, ...]
    """Cosine of the image to each text."""
    maps_THW: NDArray[np.float32]
    """Values of the cells of `box`, as `Bundle.heat_map` returns them."""

    def draw(self) -> list[Image.Image]:
        """Draw each map over the image; one scale for all texts, so that their maps can be compared."""
        scale = float(np.abs(self.maps_THW).max()) or 1.0
        factor = SHOWN_SIDE / max(self.image.size)
        size = (max(1, round(self.image.width * factor)), max(1, round(self.image.height * factor)))
        image = self.image.convert("RGB").resize(size, Image.Resampling.BICUBIC)
        box = tuple(round(side * factor) for side in self.box)
        return [_draw_map(image, map_HW / scale, box) for map_HW in self.maps_THW]


def _draw_map(image: Image.Image, map_HW: NDArray[np.float32], box: tuple[int, ...]) -> Image.Image:
    """Draw values in [-1, 1] over the part `box` of a gray copy of the image."""
    gray_levels = [MIN_GRAY + value * (255 - MIN_GRAY) // 255 for value in range(256)]
    drawn = image.convert("L").point(gray_levels).convert("RGB")
    left, top, right, bottom = box
    size = (max(1, right - left), max(1, bottom - top))
    for sign, color in ((1, HOT_COLOR), (-1, COLD_COLOR)):
        values = Image.fromarray(np.clip(sign * map_HW, 0, 1).astype(np.float32))
        opacity = np.clip(np.asarray(values.resize(size, Image.Resampling.BICUBIC)), 0, 1) ** GAMMA * MAX_OPACITY
        drawn.paste(color, (left, top), Image.fromarray((opacity * 255).astype(np.uint8)))
    return drawn


def save_heat_maps(heat_maps: HeatMaps, path: Path) -> None:
    """Write the drawn maps side by side, in the order of the texts, as an image."""
    drawn = heat_maps.draw()
    width, height = drawn[0].size
    sheet = Image.new("RGB", (width * len(drawn), height))
    for index, image in enumerate(drawn):
        sheet.paste(image, (index * width, 0))
    sheet.save(path)


def write_heat_map_page(heat_maps: HeatMaps, title: str, path: Path) -> None:
    """Write a page with the image and the map of each text, best match first."""
    drawn: Sequence[Image.Image] = heat_maps.draw()
    order = sorted(range(len(drawn)), key=lambda index: -heat_maps.cosines[index])
    sections = [
        Section(
            heat_maps.texts[index],
            f"Cosine {heat_maps.cosines[index]:.3f}.",
            drawn[index],
            f"Heat map of the image for “{heat_maps.texts[index]}”",
        )
        for index in order
    ]
    lead = (
        "Orange regions raise the similarity of the image to the text, blue regions lower it. All maps have one scale. "
        "Regions without color have no influence, or the model does not see them."
    )
    write_page(path, title, lead, sections)
