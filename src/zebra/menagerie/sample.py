"""A seed, a split and an index in; the picture, what is said about it and what is true of it, out."""

from PIL import Image

from zebra.menagerie.attributes import Facts, training_facts
from zebra.menagerie.captions import describe
from zebra.menagerie.datasets import DRAWN
from zebra.menagerie.drawing import draw
from zebra.menagerie.rng import Dice
from zebra.menagerie.shifts import SHIFTS

TRAIN = "train"


def picture(seed: int, split: str, index: int) -> tuple[Image.Image, str, Facts]:
    """Draw one picture: always the same for the same three arguments.

    Args:
        seed: The world's.
        split: "train" or the name of a drawn evaluation set.
        index: Position inside the split, from 0.

    Returns:
        RGB image of 96 × 96 pixels, a true caption, and the facts it was drawn from.
    """
    dice = Dice(seed, split, index)
    facts = training_facts(dice) if split == TRAIN else DRAWN[split].roll(dice, index)[0]
    image = draw(facts, dice)
    if split in SHIFTS:
        image = SHIFTS[split](image, dice)
    return image, describe(facts, dice), facts


def label(seed: int, split: str, index: int) -> int:
    """Return the class of an evaluation picture."""
    return DRAWN[split].roll(Dice(seed, split, index), index)[1]
