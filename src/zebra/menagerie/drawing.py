"""Draw an image from its attributes: RGB, 96 × 96 pixels."""

from functools import cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from zebra.menagerie.animals import get_animal
from zebra.menagerie.attributes import ImageAttributes
from zebra.menagerie.coats import Color
from zebra.menagerie.rng import SampleRng
from zebra.menagerie.scenes import CANVAS_SIZE, draw_background
from zebra.menagerie.sprite import Sprite, build_sprite

MARGIN_PIXELS = 6
"""Distance of a fully visible animal from the frame, in canvas pixels."""
SIGN_COLORS: tuple[Color, ...] = ((250, 250, 245), (250, 240, 200), (236, 236, 240), (224, 240, 224))
SIGN_TEXT_COLORS: tuple[Color, ...] = ((24, 24, 30), (30, 40, 110), (120, 24, 28), (24, 80, 44), (70, 44, 30))


def draw_image(attributes: ImageAttributes, rng: SampleRng) -> Image.Image:
    """Draw the image with these attributes."""
    canvas, horizon = draw_background(attributes.scene, rng)
    if attributes.topic == "sign":
        _draw_sign(canvas, attributes, rng)
    elif attributes.topic == "count":
        _draw_group(canvas, attributes, rng)
    else:
        _draw_single(canvas, build_sprite(attributes, rng), attributes, horizon, rng)
    return canvas.reduce(2)


def _draw_single(
    canvas: Image.Image, sprite: Sprite, attributes: ImageAttributes, horizon: float, rng: SampleRng
) -> None:
    room = CANVAS_SIZE - 2 * MARGIN_PIXELS
    if attributes.topic == "distance":
        scale = attributes.extent * CANVAS_SIZE / max(sprite.width, sprite.height)
    else:
        scale = min(attributes.extent * CANVAS_SIZE / sprite.width, room / sprite.height)
    width, height = sprite.width * scale, sprite.height * scale
    left = _uniform_between(MARGIN_PIXELS, CANVAS_SIZE - MARGIN_PIXELS - width, rng)
    if not get_animal(attributes.animal).is_grounded:
        top = _uniform_between(MARGIN_PIXELS, CANVAS_SIZE - MARGIN_PIXELS - height, rng)
    elif attributes.distance == "far away":  # perspective: distant animals are near the horizon
        top = horizon + rng.uniform(4, 14) - height
    else:
        top = _uniform_between(max(MARGIN_PIXELS, horizon + 10 - height), CANVAS_SIZE - MARGIN_PIXELS - height, rng)
        _draw_shadow(canvas, left, top, width, height)
    sprite.draw(canvas, left, top, scale)


def _draw_group(canvas: Image.Image, attributes: ImageAttributes, rng: SampleRng) -> None:
    """Draw the animals in cells of a fixed grid, so that their size does not reveal their number."""
    columns = rng.choice((2, 3)) if attributes.count <= 4 else 3
    room = (CANVAS_SIZE - 2 * MARGIN_PIXELS) / columns
    rise = (CANVAS_SIZE - 2 * MARGIN_PIXELS) / 2
    fill = rng.uniform(0.84, 0.96)
    for cell in sorted(rng.permutation(range(2 * columns))[: attributes.count]):  # back to front
        row, column = divmod(cell, columns)
        sprite = build_sprite(attributes, rng)
        scale = fill * min(room / sprite.width, rise / sprite.height)
        left = MARGIN_PIXELS + column * room + rng.uniform(0, 1) * (room - sprite.width * scale)
        top = MARGIN_PIXELS + row * rise + rng.uniform(0, 1) * (rise - sprite.height * scale)
        sprite.draw(canvas, left, top, scale)


def _draw_sign(canvas: Image.Image, attributes: ImageAttributes, rng: SampleRng) -> None:
    size = round(rng.uniform(0.45, 0.86) * CANVAS_SIZE)
    board = Image.new("RGBA", (size, size))
    pen = ImageDraw.Draw(board)
    pen.rounded_rectangle(
        [0, 0, size - 1, size - 1], size // 10, fill=rng.choice(SIGN_COLORS), outline=(90, 70, 56), width=4
    )
    middle = (size / 2, size / 2)
    pen.text(
        middle,
        str(attributes.digit),
        rng.choice(SIGN_TEXT_COLORS),
        load_font(attributes.font, round(size * rng.uniform(0.66, 0.92))),
        "mm",
    )
    board = board.rotate(rng.uniform(-7, 7), Image.Resampling.BILINEAR, expand=True)
    left = round(rng.uniform(0, CANVAS_SIZE - board.width))
    top = round(rng.uniform(0, CANVAS_SIZE - board.height))
    post = left + board.width // 2
    ImageDraw.Draw(canvas).rectangle([post - 5, top + size // 2, post + 5, CANVAS_SIZE], fill=(110, 82, 60))
    canvas.paste(board, (left, top), board)


def _draw_shadow(canvas: Image.Image, left: float, top: float, width: float, height: float) -> None:
    shade = Image.new("L", (int(width) + 1, 11))
    ImageDraw.Draw(shade).ellipse([0, 0, shade.width - 1, shade.height - 1], fill=70)
    canvas.paste((20, 24, 30), (int(left), int(top + height) - 5), shade)


def _uniform_between(a: float, b: float, rng: SampleRng) -> float:
    return rng.uniform(min(a, b), max(a, b))


@cache
def load_font(file_name: str, size: int) -> ImageFont.FreeTypeFont:
    """Load one of matplotlib's fonts; `size` is in pixels."""
    import matplotlib

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / file_name), size)
