"""Generate one sample: the image, its caption, attributes and label."""

from PIL import Image

from zebra.menagerie.attributes import ImageAttributes, sample_training_attributes
from zebra.menagerie.captions import write_caption
from zebra.menagerie.datasets import DRAWN_DATASETS
from zebra.menagerie.drawing import draw_image
from zebra.menagerie.rng import SampleRng
from zebra.menagerie.shifts import DISTRIBUTION_SHIFTS

TRAIN_SPLIT = "train"


def generate_sample(seed: int, split: str, index: int) -> tuple[Image.Image, str, ImageAttributes, int]:
    """Generate one sample, a deterministic function of the three arguments.

    Args:
        seed: Seed of the menagerie.
        split: "train", or the name of an evaluation dataset in DRAWN_DATASETS.
        index: Index in the split, from 0.

    Returns:
        The RGB image of 96 × 96 pixels, a true caption, the attributes, and the label; the label is -1 in training.
    """
    rng = SampleRng(seed, split, index)
    attributes, label = (
        (sample_training_attributes(rng), -1) if split == TRAIN_SPLIT else DRAWN_DATASETS[split].sample(rng, index)
    )
    image = draw_image(attributes, rng)
    if split in DISTRIBUTION_SHIFTS:
        image = DISTRIBUTION_SHIFTS[split](image, rng)
    return image, write_caption(attributes, rng), attributes, label
