"""A seed in; one image with every animal in every coat, to be looked at, out."""

from PIL import Image, ImageDraw

from zebra.menagerie.animals import ANIMALS
from zebra.menagerie.attributes import single
from zebra.menagerie.coats import COATS, Colour
from zebra.menagerie.drawing import draw, font
from zebra.menagerie.rng import Dice
from zebra.menagerie.splits import UNSEEN, kind_name

FRAME: Colour = (208, 44, 44)
"""Around the kinds that training never shows."""


def contact_sheet(seed: int = 0, side: int = 96) -> Image.Image:
    """Draw the grid of kinds as they come, a row per animal and a column per coat; red frames are held out.

    Args:
        seed: Of every picture on the sheet.
        side: Pixels of one picture's side.
    """
    gap = max(4, side // 16)
    step, head, margin = side + gap, side // 4 + gap, side * 7 // 8
    sheet = Image.new("RGB", (margin + step * len(COATS), head + step * len(ANIMALS)), "white")
    pen = ImageDraw.Draw(sheet)
    letters = font("DejaVuSans.ttf", max(9, side // 7))
    for column, coat in enumerate(COATS):
        pen.text((margin + step * column + side / 2, head - gap), coat, "black", letters, "ms")
    for row, name in enumerate(ANIMALS):
        pen.text((margin - gap, head + step * row + side / 2), name, "black", letters, "rm")
        for column, coat in enumerate(COATS):
            dice = Dice(seed, f"sheet of {kind_name(name, coat)}", 0)
            image = draw(single(dice, (name, coat)), dice).resize((side, side), Image.Resampling.LANCZOS)
            left, top = margin + step * column, head + step * row
            sheet.paste(image, (left, top))
            if (name, coat) in UNSEEN:
                pen.rectangle([left - 2, top - 2, left + side + 1, top + side + 1], outline=FRAME, width=3)
    return sheet
