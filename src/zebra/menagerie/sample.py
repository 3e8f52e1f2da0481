"""Generate one sample: the image, its caption and its attributes."""

from PIL import Image

from zebra.menagerie.attributes import ImageAttributes, sample_training_attributes
from zebra.menagerie.captions import write_caption
from zebra.menagerie.datasets import DRAWN_DATASETS
from zebra.menagerie.drawing import draw_image
from zebra.menagerie.rng import SampleRng
from zebra.menagerie.shifts import DISTRIBUTION_SHIFTS

TRAIN_SPLIT = "train"


def generate_sample(seed: int, split: str, index: int) -> tuple[Image.Image, str, ImageAttributes]:
    """Generate one sample, a deterministic function of the three arguments.

    Args:
        seed: Seed of the menagerie.
        split: "train", or the name of an evaluation dataset in DRAWN_DATASETS.
        index: Index in the split, from 0.

    Returns:
        The RGB image of 96 × 96 pixels, a true caption, and the attributes.
    """
    rng = SampleRng(seed, split, index)
    attributes = (
        sample_training_attributes(rng) if split == TRAIN_SPLIT else DRAWN_DATASETS[split].sample(rng, index)[0]
    )
    image = draw_image(attributes, rng)
    if split in DISTRIBUTION_SHIFTS:
        image = DISTRIBUTION_SHIFTS[split](image, rng)
    return image, write_caption(attributes, rng), attributes


def get_label(seed: int, split: str, index: int) -> int:
    """Return the label of an evaluation image."""
    return DRAWN_DATASETS[split].sample(SampleRng(seed, split, index), index)[1]
