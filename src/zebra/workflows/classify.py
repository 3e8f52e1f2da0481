"""The task `zebra classify`: zero-shot classification of image files."""

from collections.abc import Iterable
from pathlib import Path

from zebra.config.classify import ClassifyConfig
from zebra.errors import ConfigError
from zebra.pretrained.load import load
from zebra.text.labels import validate_labels
from zebra.values import Prediction

LIST_SUFFIXES = (".txt", ".csv", ".tsv", ".json")
"""Suffixes of files that may list class names, and that no class name has."""


def run(config: ClassifyConfig) -> list[list[Prediction]]:
    """Rank the labels for every image, best first.

    Raises:
        ConfigError: There are no labels, one is empty or the name of a file, or two are one text to the model.
        WeightsError: The model is incomplete or damaged.
        DataError: An image file is missing or unusable; the message names it.
    """
    # Before the model is loaded, so that a typing error costs no wait.
    _require_no_files(validate_labels(config.labels))
    images = [Path(image) for image in config.images]
    return load(config.model, device=config.device).classify(images, config.labels, config.templates or None)


def _require_no_files(labels: Iterable[str]) -> None:
    """Raise ConfigError for a label that is a file: its name would be scored, not the names in it."""
    for label in labels:
        suffix = Path(label).suffix.lower()
        if suffix in LIST_SUFFIXES or (suffix and _is_file(label)):
            raise ConfigError(
                f"the label {label!r} is the name of a file. To read labels from a text file, one per line, write "
                f"--labels @{label}"
            )


def _is_file(path: str) -> bool:
    try:
        return Path(path).is_file()
    except OSError:  # too long for a path
        return False
