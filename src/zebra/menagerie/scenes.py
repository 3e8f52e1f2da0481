"""Scenes: painted backgrounds with a horizon."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from PIL import Image, ImageDraw

from zebra.menagerie.coats import Color
from zebra.menagerie.rng import SampleRng

CANVAS_SIZE = 192
"""Side of the canvas in pixels; the final image is half of it, for anti-aliasing."""


@dataclass(frozen=True, slots=True)
class Scene:
    """The colors and details of one scene."""

    sky: tuple[Color, Color]
    """Colors at the top and at the horizon."""
    ground: tuple[Color, Color]
    """Colors at the horizon and in front."""
    clashing_colors: tuple[str, ...]
    """Colors of animals that would be hard to see here."""
    draw_details: Callable[[ImageDraw.ImageDraw, float, SampleRng], None]
    """Draws trees, houses and the like, given the y of the horizon."""


def draw_background(name: str, rng: SampleRng) -> tuple[Image.Image, float]:
    """Draw the background of a scene.

    Returns:
        The RGB image of CANVAS_SIZE × CANVAS_SIZE pixels, and the y of its horizon in pixels.
    """
    scene = SCENES[name]
    image = _draw_gradient(name, rng.choice(range(NUM_TINTS))).copy()
    horizon = round(rng.uniform(0.42, 0.66) * CANVAS_SIZE)
    image.paste(_draw_gradient(name, NUM_TINTS + rng.choice(range(NUM_TINTS))), (0, horizon))
    scene.draw_details(ImageDraw.Draw(image), horizon, rng)
    return image, horizon


NUM_TINTS = 4
"""Number of brightness levels of skies and grounds."""


@cache
def _draw_gradient(name: str, tint: int) -> Image.Image:
    """Draw a sky, or a ground if `tint` is at least NUM_TINTS."""
    high, low = SCENES[name].sky if tint < NUM_TINTS else SCENES[name].ground
    light = 0.91 + 0.06 * (tint % NUM_TINTS)
    ramp = Image.linear_gradient("L").resize((CANVAS_SIZE, CANVAS_SIZE))
    bands = [
        ramp.point([min(255, round(light * (a + (b - a) * step / 255))) for step in range(256)])
        for a, b in zip(high, low, strict=True)
    ]
    return Image.merge("RGB", bands)


def _draw_meadow(draw: ImageDraw.ImageDraw, horizon: float, rng: SampleRng) -> None:
    _draw_clouds(draw, horizon, rng)
    _draw_sun(draw, horizon, rng, (255, 232, 120))
    for _ in range(14):
        x, y = rng.uniform(0, CANVAS_SIZE), rng.uniform(horizon + 8, CANVAS_SIZE)
        draw.line([x, y, x + 2, y - 7], fill=(70, 136, 52), width=2)
    for _ in range(6):
        x, y = rng.uniform(0, CANVAS_SIZE), rng.uniform(horizon + 8, CANVAS_SIZE)
        _draw_disc(draw, x, y, 3, rng.choice(((250, 250, 250), (250, 220, 80), (240, 130, 160))))


def _draw_snow(draw: ImageDraw.ImageDraw, horizon: float, rng: SampleRng) -> None:
    for _ in range(3):
        _draw_fir(draw, rng.uniform(0, CANVAS_SIZE), horizon + 6, rng.uniform(26, 52), (96, 130, 120))
    for _ in range(26):
        _draw_disc(
            draw, rng.uniform(0, CANVAS_SIZE), rng.uniform(0, CANVAS_SIZE), rng.uniform(1.2, 2.6), (255, 255, 255)
        )


def _draw_beach(draw: ImageDraw.ImageDraw, horizon: float, rng: SampleRng) -> None:
    _draw_sun(draw, horizon, rng, (255, 240, 150))
    shore = horizon + rng.uniform(10, 24)
    draw.rectangle([0, horizon, CANVAS_SIZE, shore], fill=(44, 150, 190))
    for _ in range(3):
        x, y = rng.uniform(0, CANVAS_SIZE), rng.uniform(horizon + 3, shore - 3)
        draw.line([x, y, x + rng.uniform(14, 40), y], fill=(150, 214, 230), width=2)
    draw.line([0, shore, CANVAS_SIZE, shore], fill=(245, 250, 250), width=4)


def _draw_forest(draw: ImageDraw.ImageDraw, horizon: float, rng: SampleRng) -> None:
    for layer in range(2):
        for place in range(7):
            x = (place + rng.uniform(0.1, 0.9)) * CANVAS_SIZE / 7
            green = (46, 94, 62) if layer == 0 else (32, 76, 48)
            _draw_fir(draw, x, horizon + 6 + 6 * layer, rng.uniform(60, 110) - 24 * layer, green)


def _draw_desert(draw: ImageDraw.ImageDraw, horizon: float, rng: SampleRng) -> None:
    _draw_sun(draw, horizon, rng, (255, 250, 225))
    for _ in range(2):
        x, r = rng.uniform(0, CANVAS_SIZE), rng.uniform(50, 90)
        draw.ellipse([x - r, horizon - r * 0.24, x + r, horizon + r * 0.4], fill=(226, 178, 112))
    for _ in range(rng.choice((1, 2))):
        x, h = rng.uniform(10, CANVAS_SIZE - 10), rng.uniform(24, 46)
        for line in (
            [x, horizon + 6, x, horizon + 6 - h],
            [x - 9, horizon - h * 0.5, x - 9, horizon - h * 0.2],
            [x - 9, horizon - h * 0.2, x, horizon - h * 0.2],
        ):
            draw.line(line, fill=(72, 128, 76), width=6)


def _draw_night(draw: ImageDraw.ImageDraw, horizon: float, rng: SampleRng) -> None:
    for _ in range(20):
        _draw_disc(draw, rng.uniform(0, CANVAS_SIZE), rng.uniform(0, horizon), rng.uniform(0.8, 1.8), (240, 240, 215))
    x, y = rng.uniform(20, CANVAS_SIZE - 20), rng.uniform(16, 40)
    _draw_disc(draw, x, y, 12, (244, 240, 205))
    _draw_disc(draw, x + 6, y - 3, 10, (38, 44, 92))


def _draw_mountains(draw: ImageDraw.ImageDraw, horizon: float, rng: SampleRng) -> None:
    for place in range(3):
        x, h, w = (place + rng.uniform(0, 1)) * CANVAS_SIZE / 3, rng.uniform(44, 76), rng.uniform(44, 70)
        draw.polygon(
            [x - w, horizon, x, horizon - h, x + w, horizon], fill=rng.choice(((122, 128, 152), (104, 112, 140)))
        )
        draw.polygon(
            [x - w * 0.3, horizon - h * 0.7, x, horizon - h, x + w * 0.3, horizon - h * 0.7, x, horizon - h * 0.6],
            fill=(248, 250, 252),
        )


def _draw_town(draw: ImageDraw.ImageDraw, horizon: float, rng: SampleRng) -> None:
    x = -rng.uniform(0, 20)
    while x < CANVAS_SIZE:
        w, h = rng.uniform(20, 40), rng.uniform(26, 80)
        draw.rectangle(
            [x, horizon - h, x + w, horizon], fill=rng.choice(((176, 158, 152), (154, 146, 156), (192, 176, 160)))
        )
        for wx in range(int(x) + 5, int(x + w) - 7, 10):
            for wy in range(int(horizon - h) + 6, int(horizon) - 8, 13):
                draw.rectangle([wx, wy, wx + 4, wy + 6], fill=(236, 226, 180))
        x += w + 2


def _draw_sun(draw: ImageDraw.ImageDraw, horizon: float, rng: SampleRng, color: Color) -> None:
    if rng.bernoulli(0.6):
        _draw_disc(draw, rng.uniform(16, CANVAS_SIZE - 16), rng.uniform(14, horizon * 0.5), 12, color)


def _draw_clouds(draw: ImageDraw.ImageDraw, horizon: float, rng: SampleRng) -> None:
    for _ in range(rng.choice((0, 1, 2))):
        x, y = rng.uniform(0, CANVAS_SIZE), rng.uniform(14, horizon * 0.6)
        for dx, r in ((-14, 8), (0, 12), (14, 8)):
            draw.ellipse([x + dx - r * 1.3, y - r * 0.8, x + dx + r * 1.3, y + r * 0.8], fill=(250, 252, 255))


def _draw_fir(draw: ImageDraw.ImageDraw, x: float, y: float, h: float, color: Color) -> None:
    draw.rectangle([x - 2, y - h * 0.2, x + 2, y], fill=(96, 70, 50))
    for base, tip, half in ((0.12, 0.6, 0.28), (0.4, 0.82, 0.22), (0.66, 1.0, 0.15)):
        draw.polygon([x - half * h, y - base * h, x, y - tip * h, x + half * h, y - base * h], fill=color)


def _draw_disc(draw: ImageDraw.ImageDraw, x: float, y: float, r: float, color: Color) -> None:
    draw.ellipse([x - r, y - r, x + r, y + r], fill=color)


SCENES = {
    "meadow": Scene(((120, 180, 236), (206, 230, 248)), ((132, 196, 96), (98, 168, 72)), ("green",), _draw_meadow),
    "snow": Scene(((164, 188, 214), (212, 224, 236)), ((240, 245, 250), (224, 234, 244)), ("white",), _draw_snow),
    "beach": Scene(((104, 190, 240), (196, 232, 248)), ((240, 222, 172), (230, 206, 150)), ("yellow",), _draw_beach),
    "forest": Scene(((150, 186, 160), (196, 216, 180)), ((112, 140, 84), (90, 118, 66)), ("green",), _draw_forest),
    "desert": Scene(
        ((132, 196, 226), (248, 226, 188)), ((236, 194, 128), (222, 172, 106)), ("orange", "yellow"), _draw_desert
    ),
    "night": Scene(
        ((18, 22, 58), (52, 60, 112)), ((46, 62, 74), (36, 48, 60)), ("black", "blue", "purple", "brown"), _draw_night
    ),
    "mountains": Scene(
        ((150, 196, 236), (222, 234, 244)), ((150, 170, 122), (128, 150, 100)), ("gray", "green"), _draw_mountains
    ),
    "town": Scene(((184, 202, 222), (228, 226, 224)), ((156, 156, 160), (134, 134, 140)), ("gray",), _draw_town),
}


def compatible_scenes(colors: tuple[str, ...]) -> list[str]:
    """Return the names of the scenes in which these colors are clearly visible."""
    return [name for name, scene in SCENES.items() if not set(colors) & set(scene.clashing_colors)]
