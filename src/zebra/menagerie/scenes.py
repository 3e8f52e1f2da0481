"""The places: a scene's name in; a painted background out, and where its ground begins."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from PIL import Image, ImageDraw

from zebra.menagerie.coats import Colour
from zebra.menagerie.rng import Dice

CANVAS = 192
"""Side of the picture while it is painted; reduced to half at the end, so that edges are smooth."""


@dataclass(frozen=True, slots=True)
class Scene:
    """One kind of place."""

    sky: tuple[Colour, Colour]
    """At the top and at the horizon."""
    ground: tuple[Colour, Colour]
    """At the horizon and in front."""
    clash: tuple[str, ...]
    """Colours of animals that would be lost here."""
    furnish: Callable[[ImageDraw.ImageDraw, float, Dice], None]
    """Draws what stands around, given the height of the horizon."""


def paint_scene(name: str, dice: Dice) -> tuple[Image.Image, float]:
    """Paint a background.

    Returns:
        An RGB image of CANVAS × CANVAS pixels, and the height of its horizon in pixels.
    """
    scene = SCENES[name]
    image = _gradient(name, dice.pick(range(TINTS))).copy()
    horizon = round(dice.between(0.42, 0.66) * CANVAS)
    image.paste(_gradient(name, TINTS + dice.pick(range(TINTS))), (0, horizon))
    scene.furnish(ImageDraw.Draw(image), horizon, dice)
    return image, horizon


TINTS = 4
"""Brightnesses that skies and grounds come in."""


@cache
def _gradient(name: str, tint: int) -> Image.Image:
    """Paint a sky, or with a tint from TINTS on, a ground."""
    high, low = SCENES[name].sky if tint < TINTS else SCENES[name].ground
    light = 0.91 + 0.06 * (tint % TINTS)
    ramp = Image.linear_gradient("L").resize((CANVAS, CANVAS))
    bands = [
        ramp.point([min(255, round(light * (a + (b - a) * step / 255))) for step in range(256)])
        for a, b in zip(high, low, strict=True)
    ]
    return Image.merge("RGB", bands)


def _meadow(draw: ImageDraw.ImageDraw, horizon: float, dice: Dice) -> None:
    _clouds(draw, horizon, dice)
    _sun(draw, horizon, dice, (255, 232, 120))
    for _ in range(14):
        x, y = dice.between(0, CANVAS), dice.between(horizon + 8, CANVAS)
        draw.line([x, y, x + 2, y - 7], fill=(70, 136, 52), width=2)
    for _ in range(6):
        x, y = dice.between(0, CANVAS), dice.between(horizon + 8, CANVAS)
        _disc(draw, x, y, 3, dice.pick(((250, 250, 250), (250, 220, 80), (240, 130, 160))))


def _snow(draw: ImageDraw.ImageDraw, horizon: float, dice: Dice) -> None:
    for _ in range(3):
        _fir(draw, dice.between(0, CANVAS), horizon + 6, dice.between(26, 52), (96, 130, 120))
    for _ in range(26):
        _disc(draw, dice.between(0, CANVAS), dice.between(0, CANVAS), dice.between(1.2, 2.6), (255, 255, 255))


def _beach(draw: ImageDraw.ImageDraw, horizon: float, dice: Dice) -> None:
    _sun(draw, horizon, dice, (255, 240, 150))
    shore = horizon + dice.between(10, 24)
    draw.rectangle([0, horizon, CANVAS, shore], fill=(44, 150, 190))
    for _ in range(3):
        x, y = dice.between(0, CANVAS), dice.between(horizon + 3, shore - 3)
        draw.line([x, y, x + dice.between(14, 40), y], fill=(150, 214, 230), width=2)
    draw.line([0, shore, CANVAS, shore], fill=(245, 250, 250), width=4)


def _forest(draw: ImageDraw.ImageDraw, horizon: float, dice: Dice) -> None:
    for layer in range(2):
        for place in range(7):
            x = (place + dice.between(0.1, 0.9)) * CANVAS / 7
            green = (46, 94, 62) if layer == 0 else (32, 76, 48)
            _fir(draw, x, horizon + 6 + 6 * layer, dice.between(60, 110) - 24 * layer, green)


def _desert(draw: ImageDraw.ImageDraw, horizon: float, dice: Dice) -> None:
    _sun(draw, horizon, dice, (255, 250, 225))
    for _ in range(2):
        x, r = dice.between(0, CANVAS), dice.between(50, 90)
        draw.ellipse([x - r, horizon - r * 0.24, x + r, horizon + r * 0.4], fill=(226, 178, 112))
    for _ in range(dice.pick((1, 2))):
        x, h = dice.between(10, CANVAS - 10), dice.between(24, 46)
        for line in (
            [x, horizon + 6, x, horizon + 6 - h],
            [x - 9, horizon - h * 0.5, x - 9, horizon - h * 0.2],
            [x - 9, horizon - h * 0.2, x, horizon - h * 0.2],
        ):
            draw.line(line, fill=(72, 128, 76), width=6)


def _night(draw: ImageDraw.ImageDraw, horizon: float, dice: Dice) -> None:
    for _ in range(20):
        _disc(
            draw, dice.between(0, CANVAS), dice.between(0, horizon), dice.between(0.8, 1.8), (240, 240, 215)
        )
    x, y = dice.between(20, CANVAS - 20), dice.between(16, 40)
    _disc(draw, x, y, 12, (244, 240, 205))
    _disc(draw, x + 6, y - 3, 10, (38, 44, 92))


def _mountains(draw: ImageDraw.ImageDraw, horizon: float, dice: Dice) -> None:
    for place in range(3):
        x, h, w = (place + dice.between(0, 1)) * CANVAS / 3, dice.between(44, 76), dice.between(44, 70)
        draw.polygon(
            [x - w, horizon, x, horizon - h, x + w, horizon],
            fill=dice.pick(((122, 128, 152), (104, 112, 140))),
        )
        draw.polygon(
            [
                x - w * 0.3,
                horizon - h * 0.7,
                x,
                horizon - h,
                x + w * 0.3,
                horizon - h * 0.7,
                x,
                horizon - h * 0.6,
            ],
            fill=(248, 250, 252),
        )


def _town(draw: ImageDraw.ImageDraw, horizon: float, dice: Dice) -> None:
    x = -dice.between(0, 20)
    while x < CANVAS:
        w, h = dice.between(20, 40), dice.between(26, 80)
        draw.rectangle(
            [x, horizon - h, x + w, horizon],
            fill=dice.pick(((176, 158, 152), (154, 146, 156), (192, 176, 160))),
        )
        for wx in range(int(x) + 5, int(x + w) - 7, 10):
            for wy in range(int(horizon - h) + 6, int(horizon) - 8, 13):
                draw.rectangle([wx, wy, wx + 4, wy + 6], fill=(236, 226, 180))
        x += w + 2


def _sun(draw: ImageDraw.ImageDraw, horizon: float, dice: Dice, colour: Colour) -> None:
    if dice.chance(0.6):
        _disc(draw, dice.between(16, CANVAS - 16), dice.between(14, horizon * 0.5), 12, colour)


def _clouds(draw: ImageDraw.ImageDraw, horizon: float, dice: Dice) -> None:
    for _ in range(dice.pick((0, 1, 2))):
        x, y = dice.between(0, CANVAS), dice.between(14, horizon * 0.6)
        for dx, r in ((-14, 8), (0, 12), (14, 8)):
            draw.ellipse([x + dx - r * 1.3, y - r * 0.8, x + dx + r * 1.3, y + r * 0.8], fill=(250, 252, 255))


def _fir(draw: ImageDraw.ImageDraw, x: float, y: float, h: float, colour: Colour) -> None:
    draw.rectangle([x - 2, y - h * 0.2, x + 2, y], fill=(96, 70, 50))
    for base, tip, half in ((0.12, 0.6, 0.28), (0.4, 0.82, 0.22), (0.66, 1.0, 0.15)):
        draw.polygon([x - half * h, y - base * h, x, y - tip * h, x + half * h, y - base * h], fill=colour)


def _disc(draw: ImageDraw.ImageDraw, x: float, y: float, r: float, colour: Colour) -> None:
    draw.ellipse([x - r, y - r, x + r, y + r], fill=colour)


SCENES = {
    "meadow": Scene(((120, 180, 236), (206, 230, 248)), ((132, 196, 96), (98, 168, 72)), ("green",), _meadow),
    "snow": Scene(((164, 188, 214), (212, 224, 236)), ((240, 245, 250), (224, 234, 244)), ("white",), _snow),
    "beach": Scene(
        ((104, 190, 240), (196, 232, 248)), ((240, 222, 172), (230, 206, 150)), ("yellow",), _beach
    ),
    "forest": Scene(((150, 186, 160), (196, 216, 180)), ((112, 140, 84), (90, 118, 66)), ("green",), _forest),
    "desert": Scene(
        ((132, 196, 226), (248, 226, 188)), ((236, 194, 128), (222, 172, 106)), ("orange", "yellow"), _desert
    ),
    "night": Scene(
        ((18, 22, 58), (52, 60, 112)),
        ((46, 62, 74), (36, 48, 60)),
        ("black", "blue", "purple", "brown"),
        _night,
    ),
    "mountains": Scene(
        ((150, 196, 236), (222, 234, 244)), ((150, 170, 122), (128, 150, 100)), ("gray", "green"), _mountains
    ),
    "town": Scene(((184, 202, 222), (228, 226, 224)), ((156, 156, 160), (134, 134, 140)), ("gray",), _town),
}


def scenes_for(colours: tuple[str, ...]) -> list[str]:
    """Return the scenes in which an animal of these colours is seen clearly."""
    return [name for name, scene in SCENES.items() if not set(colours) & set(scene.clash)]
