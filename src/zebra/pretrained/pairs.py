"""An image model and a text model of two folders as one model."""

from dataclasses import replace
from pathlib import Path

from zebra.errors import ConfigError, WeightsError
from zebra.pretrained.checkpoint import PretrainedCheckpoint, TextCheckpoint
from zebra.pretrained.m_clip import is_m_clip, read_m_clip
from zebra.pretrained.sentence_transformers.modules import MODULES_FILE
from zebra.pretrained.sentence_transformers.text_model import has_pooling, read_text_modules

IMAGE_PREFIXES = ("visual.", "logit_")
"""Prefixes of the tensors that a pair takes from the image model."""


def is_text_model(path: Path) -> bool:
    """Return whether a folder has a text tower and no image tower."""
    return is_m_clip(path) or ((path / MODULES_FILE).is_file() and has_pooling(path))


def require_image_tower(path: Path) -> None:
    """Raise WeightsError for a text model, which needs an image model."""
    if is_text_model(path):
        raise WeightsError(
            f"{path} is a text model without an image tower. Load it with the image model that it was trained for: "
            f'zebra.load(IMAGE_MODEL, text="{path}"). For the commands, .save("FOLDER") writes both as one model.'
        )


def read_text_model(path: Path) -> TextCheckpoint:
    """Read a text model.

    Raises:
        WeightsError: The folder is not a text model that zebra reads, or a file of it is damaged.
    """
    if not is_text_model(path):
        raise WeightsError(
            f"{path} is no text model: text= takes a folder of sentence-transformers without an image tower, or of "
            "M-CLIP. Load a model that has both towers without text=."
        )
    return read_m_clip(path) if is_m_clip(path) else read_text_modules(path)


def pair_towers(
    image: PretrainedCheckpoint, text: TextCheckpoint, *, image_path: Path, text_path: Path
) -> PretrainedCheckpoint:
    """Combine the image tower and the logit scale of one model with a text tower.

    Raises:
        ConfigError: Their vectors differ in width; the message names `image_path` and `text_path`.
    """
    if image.config.embed_dim != text.embed_dim:
        raise ConfigError(
            f"{image_path} has vectors of {image.config.embed_dim} dimensions, but {text_path} has {text.embed_dim}. "
            "Pair a text model with the image model that it was trained for."
        )
    image_tensors = {name: tensor for name, tensor in image.tensors.items() if name.startswith(IMAGE_PREFIXES)}
    return replace(
        image,
        layout="pair",
        config=replace(image.config, text=text.config),
        tensors=image_tensors | text.tensors,
        files=(*image.files, *text.files),
    )
