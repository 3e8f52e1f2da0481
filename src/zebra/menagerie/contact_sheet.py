"""A seed in; one image with every animal in every coat, to be looked at, out."""

from PIL import Image, ImageDraw

from zebra.menagerie.animals import ANIMALS
from zebra.menagerie.attributes import sample_single
from zebra.menagerie.coats import COATS, Color
from zebra.menagerie.drawing import draw_image, load_font
from zebra.menagerie.rng import SampleRng
from zebra.menagerie.splits import UNSEEN_KINDS, kind_name

HELD_OUT_FRAME_COLOR: Color = (208, 44, 44)
"""Around the kinds that training never shows."""


def draw_contact_sheet(seed: int = 0, image_size: int = 96) -> Image.Image:
    """Draw the grid of kinds as they come, a row per animal and a column per coat; red frames are held out.

    Args:
        seed: Of every picture on the sheet.
        image_size: Pixels of one picture's side.
    """
    gap = max(4, image_size // 16)
    step, head, margin = image_size + gap, image_size // 4 + gap, image_size * 7 // 8
    sheet = Image.new("RGB", (margin + step * len(COATS), head + step * len(ANIMALS)), "white")
    pen = ImageDraw.Draw(sheet)
    letters = load_font("DejaVuSans.ttf", max(9, image_size // 7))
    for column, coat in enumerate(COATS):
        pen.text((margin + step * column + image_size / 2, head - gap), coat, "black", letters, "ms")
    for row, name in enumerate(ANIMALS):
        pen.text((margin - gap, head + step * row + image_size / 2), name, "black", letters, "rm")
        for column, coat in enumerate(COATS):
            dice = SampleRng(seed, f"sheet of {kind_name(name, coat)}", 0)
            image = draw_image(sample_single(dice, (name, coat)), dice).resize(
                (image_size, image_size), Image.Resampling.LANCZOS
            )
            left, top = margin + step * column, head + step * row
            sheet.paste(image, (left, top))
            if (name, coat) in UNSEEN_KINDS:
                pen.rectangle(
                    [left - 2, top - 2, left + image_size + 1, top + image_size + 1],
                    outline=HELD_OUT_FRAME_COLOR,
                    width=3,
                )
    return sheet
