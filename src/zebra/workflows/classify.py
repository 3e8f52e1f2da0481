"""The task `zebra classify`: zero-shot classification of image files."""

from pathlib import Path

from zebra.config.classify import ClassifyConfig
from zebra.pretrained.load import load
from zebra.text.labels import validate_labels
from zebra.text.templates import DEFAULT_TEMPLATES
from zebra.values import Prediction


def run(config: ClassifyConfig) -> list[list[Prediction]]:
    """Rank the labels for every image, best first.

    Raises:
        ConfigError: There are no labels, or one is empty or repeated.
        WeightsError: The model is incomplete or damaged.
        DataError: An image file is missing or unusable; the message names it.
    """
    validate_labels(config.labels)  # before the model is loaded, so that a typing error costs no wait
    images = [Path(image) for image in config.images]
    return load(config.model).classify(images, config.labels, config.templates or DEFAULT_TEMPLATES)
