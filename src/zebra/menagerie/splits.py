"""What training never shows: a fifth of the kinds, and the fonts kept for testing; the same for every seed."""

from zebra.menagerie.animals import ANIMALS
from zebra.menagerie.coats import COATS

HELD_OUT_ANIMALS = {
    "plain": ("giraffe", "snail", "owl"),
    "striped": ("horse", "duck", "camel"),
    "spotted": ("cat", "turtle", "whale"),
    "checkered": ("elephant", "fish", "butterfly"),
    "patched": ("pig", "rabbit", "crocodile"),
    "two-tone": ("cat", "pig", "whale"),
}
"""Coat → the animals that never wear it in training, in pictures or in words."""

ALL_KINDS = tuple((animal, coat) for animal in ANIMALS for coat in COATS)
"""Every (animal, coat), in the order of the class names."""
SEEN_KINDS = tuple((animal, coat) for animal, coat in ALL_KINDS if animal not in HELD_OUT_ANIMALS[coat])
UNSEEN_KINDS = tuple((animal, coat) for animal, coat in ALL_KINDS if animal in HELD_OUT_ANIMALS[coat])

TRAIN_FONTS = (
    "DejaVuSans.ttf",
    "DejaVuSans-Bold.ttf",
    "DejaVuSans-Oblique.ttf",
    "DejaVuSansMono.ttf",
    "DejaVuSerif.ttf",
    "DejaVuSerif-Bold.ttf",
    "DejaVuSerif-Italic.ttf",
    "cmr10.ttf",
    "cmb10.ttf",
)
TEST_FONTS = ("STIXGeneral.ttf", "STIXGeneralBol.ttf", "STIXGeneralItalic.ttf", "cmss10.ttf", "cmtt10.ttf")
"""Files among matplotlib's; the two tuples share no font."""


def kind_name(animal: str, coat: str) -> str:
    """Return the class name of a kind, which "a" fits before: every coat begins with a consonant.

    >>> kind_name("elephant", "striped")
    'striped elephant'
    """
    return f"{coat} {animal}"
