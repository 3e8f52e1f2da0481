"""`zebra classify`: a model, pictures and labels in; the labels of every picture, best first, out."""

from collections.abc import Sequence
from pathlib import Path

from zebra.pretrained.bundle import validate_labels
from zebra.pretrained.load import load
from zebra.text.templates import DEFAULT_TEMPLATES
from zebra.values import Prediction


def run(
    model: str, images: Sequence[str], labels: Sequence[str], templates: Sequence[str] = DEFAULT_TEMPLATES
) -> list[list[Prediction]]:
    """Rank the labels for every image file.

    Raises:
        ConfigError: No labels, or an empty or repeated one.
        WeightsError: The model folder is not whole.
        DataError: An image file is missing or unusable; the message names it.
    """
    validate_labels(labels)  # before the model is read: a typing mistake should not cost a wait
    return load(model).classify([Path(image) for image in images], labels, templates)
