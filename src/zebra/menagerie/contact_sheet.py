"""A contact sheet: one image with every animal in every coat."""

from PIL import Image, ImageDraw

from zebra.menagerie.animals import ANIMALS
from zebra.menagerie.attributes import sample_single
from zebra.menagerie.coats import COATS, Color
from zebra.menagerie.drawing import draw_image, load_font
from zebra.menagerie.rng import SampleRng
from zebra.menagerie.splits import UNSEEN_KINDS, kind_name

HELD_OUT_FRAME_COLOR: Color = (208, 44, 44)
"""Frame around the held-out kinds."""


def draw_contact_sheet(seed: int = 0, image_size: int = 96) -> Image.Image:
    """Draw all kinds in a grid, one row per animal and one column per coat, held-out kinds in red frames.

    Args:
        seed: Seed of all images on the sheet.
        image_size: Side of one image in pixels.
    """
    gap = max(4, image_size // 16)
    step, head, margin = image_size + gap, image_size // 4 + gap, image_size * 7 // 8
    sheet = Image.new("RGB", (margin + step * len(COATS), head + step * len(ANIMALS)), "white")
    pen = ImageDraw.Draw(sheet)
    font = load_font("DejaVuSans.ttf", max(9, image_size // 7))
    for column, coat in enumerate(COATS):
        pen.text((margin + step * column + image_size / 2, head - gap), coat, "black", font, "ms")
    for row, name in enumerate(ANIMALS):
        pen.text((margin - gap, head + step * row + image_size / 2), name, "black", font, "rm")
        for column, coat in enumerate(COATS):
            rng = SampleRng(seed, f"sheet of {kind_name(name, coat)}", 0)
            image = draw_image(sample_single(rng, (name, coat)), rng).resize(
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
