"""Golden vectors: what a model folder must compute from one picture and one text, checked when it is loaded."""

import json
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from zebra.config.precision import InferencePrecision
from zebra.errors import WeightsError
from zebra.pretrained.precision import MIN_COSINE

GOLDEN_TEXT = "a photo of a horse"
MAX_ABS_DIFF = 1e-4
"""Largest difference of a unit vector's component in fp32: kernels of other processors stay far below it."""


class BundleEncoder(Protocol):
    """The two verbs of a bundle that golden vectors test, and the number format it computes them in."""

    precision: InferencePrecision

    def encode_images(self, images: list[Image.Image]) -> Tensor:
        """Return unit vectors [N, E]."""

    def encode_texts(self, texts: list[str]) -> Tensor:
        """Return unit vectors [N, E]."""


def write_golden(encoder: BundleEncoder, path: Path) -> None:
    """Record the picture, the text and the vectors they give today."""
    picture = make_golden_image()
    tensors = {
        # "picture" is part of the file format: published folders hold it.
        "picture": torch.from_numpy(np.array(picture)),
        "image_vector": encoder.encode_images([picture])[0],
        "text_vector": encoder.encode_texts([GOLDEN_TEXT])[0],
    }
    save_file(tensors, path, metadata={"text": json.dumps(GOLDEN_TEXT)})


def verify_golden(encoder: BundleEncoder, path: Path) -> None:
    """Recompute the vectors: within 1e-4 per component in fp32, to a cosine of 0.999 in a smaller format.

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
        what = f"{path}: the {name.replace('_', ' ')} comes out"
        difference = float((now[name] - golden[name]).abs().max())
        if encoder.precision == "fp32" and not difference <= MAX_ABS_DIFF:
            raise WeightsError(
                f"{what} {difference:.2g} away from the recorded one; "
                f"{part} or the software computing them changed since the folder was written"
            )
        cosine = float(now[name] @ golden[name])
        if encoder.precision != "fp32" and not cosine >= MIN_COSINE:
            raise WeightsError(
                f"{what} in {encoder.precision} at a cosine of {cosine:.4f} to the recorded one, below {MIN_COSINE}; "
                "load this model with precision='fp32' or 'auto'"
            )


def make_golden_image() -> Image.Image:
    """Draw a fixed picture of 80 × 60, not square and with detail, so that preprocessing is tested too."""
    y, x = np.mgrid[0:60, 0:80]
    waves = [128 + 60 * np.sin(x / 3.0) + 60 * np.cos(y / 5.0), 3.0 * x, 4.0 * y]
    return Image.fromarray(np.stack(waves, axis=-1).clip(0, 255).astype(np.uint8))
