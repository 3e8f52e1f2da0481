"""Golden vectors: what a model folder must compute from one picture and one text, checked when it is loaded."""

import json
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from zebra.errors import WeightsError

TEXT = "a photo of a horse"
TOLERANCE = 1e-4
"""Largest difference of a unit vector's component: fp32 kernels of other processors stay far below it."""


class Encoder(Protocol):
    """The two verbs of a bundle that golden vectors test."""

    def encode_images(self, images: list[Image.Image]) -> Tensor:
        """Return unit vectors [N, E]."""

    def encode_texts(self, texts: list[str]) -> Tensor:
        """Return unit vectors [N, E]."""


def write_golden(encoder: Encoder, path: Path) -> None:
    """Record the picture, the text and the vectors they give today."""
    picture = _picture()
    tensors = {
        "picture": torch.from_numpy(picture),
        "image_vector": encoder.encode_images([Image.fromarray(picture)])[0],
        "text_vector": encoder.encode_texts([TEXT])[0],
    }
    save_file(tensors, path, metadata={"text": json.dumps(TEXT)})


def check_golden(encoder: Encoder, path: Path) -> None:
    """Recompute the vectors.

    Raises:
        WeightsError: They differ; the message says whether image or text, and by how much.
    """
    with safe_open(str(path), framework="pt") as file:
        text = json.loads(file.metadata()["text"])
        golden = {name: file.get_tensor(name) for name in ("picture", "image_vector", "text_vector")}
    now = {
        "image_vector": encoder.encode_images([Image.fromarray(golden["picture"].numpy())])[0],
        "text_vector": encoder.encode_texts([text])[0],
    }
    for name, part in (
        ("image_vector", "weights or preprocess.json"),
        ("text_vector", "weights or tokenizer.json"),
    ):
        difference = float((now[name] - golden[name]).abs().max())
        if not difference <= TOLERANCE:
            raise WeightsError(
                f"{path}: the {name.replace('_', ' ')} comes out {difference:.2g} away from the recorded one; "
                f"{part} or the software computing them changed since the folder was written"
            )


def _picture() -> NDArray[np.uint8]:
    """Draw a fixed uint8 picture [60, 80, 3], not square and with detail, so that preprocessing is tested too."""
    y, x = np.mgrid[0:60, 0:80]
    waves = [128 + 60 * np.sin(x / 3.0) + 60 * np.cos(y / 5.0), 3.0 * x, 4.0 * y]
    return np.stack(waves, axis=-1).clip(0, 255).astype(np.uint8)
