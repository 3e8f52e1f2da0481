"""The facts of a picture and dice in; the picture, RGB of 96 × 96 pixels, out."""

from functools import cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from zebra.menagerie.animals import animal
from zebra.menagerie.attributes import Facts
from zebra.menagerie.coats import Colour
from zebra.menagerie.rng import Dice
from zebra.menagerie.scenes import CANVAS, paint_scene
from zebra.menagerie.sprite import Figure, pose

MARGIN = 6
"""Pixels of the canvas that a whole animal keeps from the frame."""
BOARDS: tuple[Colour, ...] = ((250, 250, 245), (250, 240, 200), (236, 236, 240), (224, 240, 224))
INKS: tuple[Colour, ...] = ((24, 24, 30), (30, 40, 110), (120, 24, 28), (24, 80, 44), (70, 44, 30))


def draw(facts: Facts, dice: Dice) -> Image.Image:
    """Draw the picture of these facts."""
    canvas, horizon = paint_scene(facts.scene, dice)
    if facts.topic == "sign":
        _place_sign(canvas, facts, dice)
    elif facts.topic == "count":
        _place_several(canvas, facts, dice)
    else:
        _place_one(canvas, pose(facts, dice), facts, horizon, dice)
    return canvas.reduce(2)


def _place_one(canvas: Image.Image, figure: Figure, facts: Facts, horizon: float, dice: Dice) -> None:
    room = CANVAS - 2 * MARGIN
    if facts.topic == "distance":
        scale = facts.extent * CANVAS / max(figure.width, figure.height)
    else:
        scale = min(facts.extent * CANVAS / figure.width, room / figure.height)
    width, height = figure.width * scale, figure.height * scale
    left = _between_ends(MARGIN, CANVAS - MARGIN - width, dice)
    if not animal(facts.animal).grounded:
        top = _between_ends(MARGIN, CANVAS - MARGIN - height, dice)
    elif facts.distance == "far away":  # perspective: what is far stands near the horizon
        top = horizon + dice.between(4, 14) - height
    else:
        top = _between_ends(max(MARGIN, horizon + 10 - height), CANVAS - MARGIN - height, dice)
        _shadow(canvas, left, top, width, height)
    figure.paint(canvas, left, top, scale)


def _place_several(canvas: Image.Image, facts: Facts, dice: Dice) -> None:
    """Put the animals into the cells of a grid, so that how large they are does not give their number away."""
    columns = dice.pick((2, 3)) if facts.count <= 4 else 3
    room = (CANVAS - 2 * MARGIN) / columns
    rise = (CANVAS - 2 * MARGIN) / 2
    fill = dice.between(0.84, 0.96)
    for cell in sorted(dice.shuffled(range(2 * columns))[: facts.count]):  # from the back to the front
        row, column = divmod(cell, columns)
        figure = pose(facts, dice)
        scale = fill * min(room / figure.width, rise / figure.height)
        left = MARGIN + column * room + dice.between(0, 1) * (room - figure.width * scale)
        top = MARGIN + row * rise + dice.between(0, 1) * (rise - figure.height * scale)
        figure.paint(canvas, left, top, scale)


def _place_sign(canvas: Image.Image, facts: Facts, dice: Dice) -> None:
    size = round(dice.between(0.45, 0.86) * CANVAS)
    board = Image.new("RGBA", (size, size))
    pen = ImageDraw.Draw(board)
    pen.rounded_rectangle(
        [0, 0, size - 1, size - 1], size // 10, fill=dice.pick(BOARDS), outline=(90, 70, 56), width=4
    )
    middle = (size / 2, size / 2)
    pen.text(
        middle,
        str(facts.digit),
        dice.pick(INKS),
        font(facts.font, round(size * dice.between(0.66, 0.92))),
        "mm",
    )
    board = board.rotate(dice.between(-7, 7), Image.Resampling.BILINEAR, expand=True)
    left = round(dice.between(0, CANVAS - board.width))
    top = round(dice.between(0, CANVAS - board.height))
    post = left + board.width // 2
    ImageDraw.Draw(canvas).rectangle([post - 5, top + size // 2, post + 5, CANVAS], fill=(110, 82, 60))
    canvas.paste(board, (left, top), board)


def _shadow(canvas: Image.Image, left: float, top: float, width: float, height: float) -> None:
    shade = Image.new("L", (int(width) + 1, 11))
    ImageDraw.Draw(shade).ellipse([0, 0, shade.width - 1, shade.height - 1], fill=70)
    canvas.paste((20, 24, 30), (int(left), int(top + height) - 5), shade)


def _between_ends(one: float, other: float, dice: Dice) -> float:
    return dice.between(min(one, other), max(one, other))


@cache
def font(file: str, size: int) -> ImageFont.FreeTypeFont:
    """Load one of matplotlib's fonts at a size in pixels."""
    import matplotlib

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / file), size)
