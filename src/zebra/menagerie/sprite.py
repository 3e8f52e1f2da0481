"""One posed, patterned animal: facts and dice in; its outlines, and its picture on a canvas, out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageChops, ImageDraw

from zebra.menagerie.animals import GAITS, Animal, Paint, animal
from zebra.menagerie.attributes import Facts
from zebra.menagerie.coats import COLOURS, Box, Colour, pattern
from zebra.menagerie.rng import Dice
from zebra.menagerie.shapes import Outline, rotate

OUTLINE: Colour = (44, 36, 40)
FAR_SHADE, DEEP_SHADE = 0.82, 0.84
"""The light that is left on what lies behind the body, and on manes and folds."""
FIXED: dict[Paint, Colour] = {
    Paint.INK: (24, 22, 28),
    Paint.LIGHT: (252, 252, 248),
    Paint.WARM: (244, 152, 40),
}


@dataclass(frozen=True, slots=True)
class Figure:
    """An animal ready to be put anywhere; its box starts at (0, 0)."""

    species: Animal
    corners: Outline
    """The species' corners, posed and turned."""
    pattern: Outline | None
    """Polygons [K, P, 2] of the coat's second colour."""
    colours: Sequence[Colour]
    """The main colour, then the pattern's."""
    width: float
    height: float

    def paint(self, canvas: Image.Image, left: float, top: float, scale: float) -> None:
        """Paint it with its box's corner at (left, top), in pixels; what lies beyond the canvas is cut off."""
        line = max(2, round(0.02 * scale * math.sqrt(self.width * self.height)))
        x, y = math.floor(left) - line, math.floor(top) - line
        right = math.ceil(left + self.width * scale) + line
        bottom = math.ceil(top + self.height * scale) + line
        # Masks of the animal's size cost a third of masks of the canvas's size.
        tile = canvas.crop((x, y, right, bottom))
        shift = (left - x, top - y)
        marks = None if self.pattern is None else _mask(tile.size, _flat(self.pattern * scale + shift))
        placed = self.corners * scale + shift
        parts = [
            (part.paint, placed[cut].ravel().tolist())
            for part, cut in zip(self.species.parts, self.species.cuts, strict=True)
        ]
        coat = [points for paint, points in parts if paint is Paint.COAT]
        far = [points for paint, points in parts if paint is Paint.FAR]
        first = next(number for number, (paint, _) in enumerate(parts) if paint is Paint.COAT)

        pen = ImageDraw.Draw(tile)
        if far:
            self._dress(tile, far, marks, line, shade=FAR_SHADE)
        for paint, points in parts[:first]:
            if paint is not Paint.FAR:
                pen.line(points + points[:2], fill=OUTLINE, width=line)
                pen.polygon(points, fill=self._colour(paint))
        self._dress(tile, coat, marks, line, shade=1.0)
        for paint, points in parts[first:]:
            if paint is Paint.DEEP:
                self._wear(tile, [points], marks, shade=DEEP_SHADE)
            elif paint is not Paint.COAT:
                pen.polygon(points, fill=self._colour(paint))
        canvas.paste(tile, (x, y))

    def _dress(
        self, tile: Image.Image, shapes: list[list[float]], marks: Image.Image | None, line: int, shade: float
    ) -> None:
        """Paint shapes that wear the coat, with one outline around them all."""
        pen = ImageDraw.Draw(tile)
        for points in shapes:
            pen.line(points + points[:2], fill=OUTLINE, width=line)
        self._wear(tile, shapes, marks, shade)

    def _wear(
        self, tile: Image.Image, shapes: list[list[float]], marks: Image.Image | None, shade: float
    ) -> None:
        """Paint shapes in both colours of the coat, darkened to `shade`."""
        pen = ImageDraw.Draw(tile)
        for points in shapes:
            pen.polygon(points, fill=_tone(self.colours[0], shade))
        if marks:
            mask = ImageChops.logical_and(_mask(tile.size, shapes), marks)
            tile.paste(_tone(self.colours[1], shade), mask=mask)

    def _colour(self, paint: Paint) -> Colour:
        return FIXED[paint] if paint in FIXED else _tone(self.colours[0], DEEP_SHADE)


def pose(facts: Facts, dice: Dice) -> Figure:
    """Pose the animal of these facts and lay its coat."""
    species = animal(facts.animal)
    gait = dice.between(*GAITS[facts.pose]) * dice.pick((-1, 1))
    tilt = math.radians(dice.between(-3, 3) if species.grounded else dice.between(-9, 9))
    mirror = np.array([-1.0 if facts.side == "left" else 1.0, 1.0])
    corners = rotate(species.posed(gait), tilt) * mirror
    start = corners.min(axis=0)
    width, height = (corners.max(axis=0) - start).tolist()
    marks = pattern(facts.coat, facts.grain, body_box(species.name), dice)
    return Figure(
        species=species,
        corners=corners - start,
        pattern=None if marks is None else rotate(marks, tilt) * mirror - start,
        colours=[_varied(COLOURS[name], dice) for name in facts.colours],
        width=width,
        height=height,
    )


@cache
def body_box(name: str) -> Box:
    """Return where the coat of an animal at rest is, in its drawing's units."""
    coat = [part.outline for part in animal(name).parts if part.paint is Paint.COAT]
    corners = np.concatenate(coat)
    (left, top), (right, bottom) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
    size = (round(right - left) + 1, round(bottom - top) + 1)
    mask = np.asarray(_mask(size, [(outline - (left, top)).ravel().tolist() for outline in coat]))
    rows = np.cumsum((mask > 0).sum(axis=1))
    waist = top + float(np.searchsorted(rows, rows[-1] / 2))
    return Box(left, top, right, bottom, waist=waist, fill=float((mask > 0).mean()))


def _flat(polygons: Outline) -> list[list[float]]:
    """Turn [K, P, 2] into what Pillow draws fastest: x0, y0, x1, y1, … per polygon."""
    flat: list[list[float]] = polygons.reshape(len(polygons), -1).tolist()
    return flat


def _mask(size: tuple[int, int], polygons: Sequence[list[float]]) -> Image.Image:
    mask = Image.new("1", size)
    pen = ImageDraw.Draw(mask)
    for points in polygons:
        pen.polygon(points, fill=1)
    return mask


def _tone(colour: Colour, light: float) -> Colour:
    """Darken a colour to a share of its light; one that is black already is lightened, or it would not show."""
    dark = sum(colour) < 200
    red, green, blue = (
        round(255 - (255 - channel) * (0.6 + 0.4 * light)) if dark else round(channel * light)
        for channel in colour
    )
    return red, green, blue


def _varied(colour: Colour, dice: Dice) -> Colour:
    red, green, blue = (min(255, max(0, round(channel + dice.between(-9, 9)))) for channel in colour)
    return red, green, blue
