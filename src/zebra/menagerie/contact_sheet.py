"""A contact sheet: one image with every animal in every coat."""

from PIL import Image, ImageDraw

from zebra.menagerie.animals import ANIMALS
from zebra.menagerie.attributes import sample_single
from zebra.menagerie.coats import COATS, Color
from zebra.menagerie.drawing import draw_image, load_font
from zebra.menagerie.rng import SampleRng
from zebra.menagerie.scenes import CANVAS_SIZE
from zebra.menagerie.splits import UNSEEN_KINDS, kind_name

HELD_OUT_FRAME_COLOR: Color = (208, 44, 44)
"""Frame around the held-out kinds."""


def draw_contact_sheet() -> Image.Image:
    """Draw all kinds in a grid, one row per animal and one column per coat, held-out kinds in red frames."""
    image_size, gap, margin = CANVAS_SIZE // 2, 6, 84
    step, head = image_size + gap, image_size // 4 + gap
    sheet = Image.new("RGB", (margin + step * len(COATS), head + step * len(ANIMALS)), "white")
    pen = ImageDraw.Draw(sheet)
    font = load_font("DejaVuSans.ttf", 13)
    for column, coat in enumerate(COATS):
        pen.text((margin + step * column + image_size / 2, head - gap), coat, "black", font, "ms")
    for row, name in enumerate(ANIMALS):
        pen.text((margin - gap, head + step * row + image_size / 2), name, "black", font, "rm")
        for column, coat in enumerate(COATS):
            rng = SampleRng(0, f"sheet of {kind_name(name, coat)}", 0)
            left, top = margin + step * column, head + step * row
            sheet.paste(draw_image(sample_single(rng, (name, coat)), rng), (left, top))
            if (name, coat) in UNSEEN_KINDS:
                pen.rectangle(
                    [left - 2, top - 2, left + image_size + 1, top + image_size + 1],
                    outline=HELD_OUT_FRAME_COLOR,
                    width=3,
                )
    return sheet
