"""Sprites: posed and patterned animals, ready to be drawn."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageChops, ImageDraw

from zebra.menagerie.animals import GAIT_RANGES, Animal, Paint, get_animal
from zebra.menagerie.attributes import ImageAttributes
from zebra.menagerie.coats import COLORS, BodyBox, Color, build_pattern
from zebra.menagerie.rng import SampleRng
from zebra.menagerie.shapes import Outline, rotate

OUTLINE_COLOR: Color = (44, 36, 40)
FAR_SHADE, DEEP_SHADE = 0.82, 0.84
"""Brightness of parts behind the body, and of manes and folds."""
PAINT_COLORS: dict[Paint, Color] = {Paint.INK: (24, 22, 28), Paint.LIGHT: (252, 252, 248), Paint.WARM: (244, 152, 40)}


@dataclass(frozen=True, slots=True)
class Sprite:
    """A posed, patterned animal; its bounding box starts at (0, 0)."""

    species: Animal
    vertices: Outline
    """The posed and rotated vertices of the species."""
    pattern: Outline | None
    """Polygons [K, P, 2] in the coat's second color."""
    colors: Sequence[Color]
    """The main color, then the pattern's color."""
    width: float
    height: float

    def draw(self, canvas: Image.Image, left: float, top: float, scale: float) -> None:
        """Draw the sprite with its box at (left, top), in pixels, clipped to the canvas."""
        line = max(2, round(0.02 * scale * math.sqrt(self.width * self.height)))
        x, y = math.floor(left) - line, math.floor(top) - line
        right = math.ceil(left + self.width * scale) + line
        bottom = math.ceil(top + self.height * scale) + line
        # Masks of the animal's size take a third of the time of masks of the canvas's size.
        tile = canvas.crop((x, y, right, bottom))
        shift = (left - x, top - y)
        marks = None if self.pattern is None else _draw_mask(tile.size, _flatten_polygons(self.pattern * scale + shift))
        placed = self.vertices * scale + shift
        parts = [
            (part.paint, placed[cut].ravel().tolist())
            for part, cut in zip(self.species.parts, self.species.part_slices, strict=True)
        ]
        coat = [points for paint, points in parts if paint is Paint.COAT]
        far = [points for paint, points in parts if paint is Paint.FAR]
        first = next(number for number, (paint, _) in enumerate(parts) if paint is Paint.COAT)

        pen = ImageDraw.Draw(tile)
        if far:
            self._draw_outlined_coat(tile, far, marks, line, shade=FAR_SHADE)
        for paint, points in parts[:first]:
            if paint is not Paint.FAR:
                pen.line(points + points[:2], fill=OUTLINE_COLOR, width=line)
                pen.polygon(points, fill=self._paint_color(paint))
        self._draw_outlined_coat(tile, coat, marks, line, shade=1.0)
        for paint, points in parts[first:]:
            if paint is Paint.DEEP:
                self._fill_coat(tile, [points], marks, shade=DEEP_SHADE)
            elif paint is not Paint.COAT:
                pen.polygon(points, fill=self._paint_color(paint))
        canvas.paste(tile, (x, y))

    def _draw_outlined_coat(
        self, canvas: Image.Image, shapes: list[list[float]], marks: Image.Image | None, line_width: int, shade: float
    ) -> None:
        """Draw shapes with the coat and one common outline."""
        pen = ImageDraw.Draw(canvas)
        for points in shapes:
            pen.line(points + points[:2], fill=OUTLINE_COLOR, width=line_width)
        self._fill_coat(canvas, shapes, marks, shade)

    def _fill_coat(
        self, canvas: Image.Image, shapes: list[list[float]], marks: Image.Image | None, shade: float
    ) -> None:
        """Fill shapes with both colors of the coat, darkened to `shade`."""
        pen = ImageDraw.Draw(canvas)
        for points in shapes:
            pen.polygon(points, fill=_shade_color(self.colors[0], shade))
        if marks:
            mask = ImageChops.logical_and(_draw_mask(canvas.size, shapes), marks)
            canvas.paste(_shade_color(self.colors[1], shade), mask=mask)

    def _paint_color(self, paint: Paint) -> Color:
        return PAINT_COLORS[paint] if paint in PAINT_COLORS else _shade_color(self.colors[0], DEEP_SHADE)


def build_sprite(attributes: ImageAttributes, rng: SampleRng) -> Sprite:
    """Build the sprite of the animal in these attributes."""
    species = get_animal(attributes.animal)
    gait = rng.uniform(*GAIT_RANGES[attributes.pose]) * rng.choice((-1, 1))
    tilt = math.radians(rng.uniform(-3, 3) if species.is_grounded else rng.uniform(-9, 9))
    mirror = np.array([-1.0 if attributes.side == "left" else 1.0, 1.0])
    vertices = rotate(species.pose_vertices(gait), tilt) * mirror
    start = vertices.min(axis=0)
    width, height = (vertices.max(axis=0) - start).tolist()
    marks = build_pattern(attributes.coat, attributes.grain, get_body_box(species.name), rng)
    return Sprite(
        species=species,
        vertices=vertices - start,
        pattern=None if marks is None else rotate(marks, tilt) * mirror - start,
        colors=[_jitter_color(COLORS[name], rng) for name in attributes.colors],
        width=width,
        height=height,
    )


@cache
def get_body_box(name: str) -> BodyBox:
    """Return the bounding box of the coat of an animal at rest, in units of its drawing."""
    coat = [part.outline for part in get_animal(name).parts if part.paint is Paint.COAT]
    vertices = np.concatenate(coat)
    (left, top), (right, bottom) = vertices.min(axis=0).tolist(), vertices.max(axis=0).tolist()
    size = (round(right - left) + 1, round(bottom - top) + 1)
    mask = np.asarray(_draw_mask(size, [(outline - (left, top)).ravel().tolist() for outline in coat]))
    rows = np.cumsum((mask > 0).sum(axis=1))
    median_y = top + float(np.searchsorted(rows, rows[-1] / 2))
    return BodyBox(left, top, right, bottom, median_y=median_y, fill_ratio=float((mask > 0).mean()))


def _flatten_polygons(polygons: Outline) -> list[list[float]]:
    """Flatten [K, P, 2] to x0, y0, x1, y1, … per polygon, which Pillow draws fastest."""
    flat: list[list[float]] = polygons.reshape(len(polygons), -1).tolist()
    return flat


def _draw_mask(size: tuple[int, int], polygons: Sequence[list[float]]) -> Image.Image:
    mask = Image.new("1", size)
    pen = ImageDraw.Draw(mask)
    for points in polygons:
        pen.polygon(points, fill=1)
    return mask


def _shade_color(color: Color, light: float) -> Color:
    """Darken a color by the factor `light`; lighten one that is nearly black, so that the shade is visible."""
    dark = sum(color) < 200
    red, green, blue = (
        round(255 - (255 - channel) * (0.6 + 0.4 * light)) if dark else round(channel * light) for channel in color
    )
    return red, green, blue


def _jitter_color(color: Color, rng: SampleRng) -> Color:
    red, green, blue = (min(255, max(0, round(channel + rng.uniform(-9, 9)))) for channel in color)
    return red, green, blue
