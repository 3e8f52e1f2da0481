"""Held-out kinds and fonts, which never occur in training, whatever the seed."""

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
"""Coat → animals that never have it in training, neither in images nor in captions."""

ALL_KINDS = tuple((animal, coat) for animal in ANIMALS for coat in COATS)
"""All (animal, coat) pairs, in the order of the class names."""
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
"""Font files of matplotlib; the two tuples are disjoint."""


def kind_name(animal: str, coat: str) -> str:
    """Return the class name of a kind. Every coat begins with a consonant, so "a" is the right article.

    >>> kind_name("elephant", "striped")
    'striped elephant'
    """
    return f"{coat} {animal}"
