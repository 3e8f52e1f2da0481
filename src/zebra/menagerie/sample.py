"""A seed, a split and an index in; the picture, what is said about it and what is true of it, out."""

from PIL import Image

from zebra.menagerie.attributes import ImageAttributes, sample_training_attributes
from zebra.menagerie.captions import write_caption
from zebra.menagerie.datasets import DRAWN_DATASETS
from zebra.menagerie.drawing import draw_image
from zebra.menagerie.rng import SampleRng
from zebra.menagerie.shifts import DISTRIBUTION_SHIFTS

TRAIN_SPLIT = "train"


def generate_sample(seed: int, split: str, index: int) -> tuple[Image.Image, str, ImageAttributes]:
    """Draw one picture: always the same for the same three arguments.

    Args:
        seed: The world's.
        split: "train" or the name of a drawn evaluation set.
        index: Position inside the split, from 0.

    Returns:
        RGB image of 96 × 96 pixels, a true caption, and the facts it was drawn from.
    """
    dice = SampleRng(seed, split, index)
    facts = (
        sample_training_attributes(dice)
        if split == TRAIN_SPLIT
        else DRAWN_DATASETS[split].sample(dice, index)[0]
    )
    image = draw_image(facts, dice)
    if split in DISTRIBUTION_SHIFTS:
        image = DISTRIBUTION_SHIFTS[split](image, dice)
    return image, write_caption(facts, dice), facts


def get_label(seed: int, split: str, index: int) -> int:
    """Return the class of an evaluation picture."""
    return DRAWN_DATASETS[split].sample(SampleRng(seed, split, index), index)[1]
