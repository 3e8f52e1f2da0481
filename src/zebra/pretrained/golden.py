"""Golden vectors of one image and one text, recomputed when a model is loaded."""

import json
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from torch import Tensor

from zebra.config.precision import InferencePrecision
from zebra.errors import WeightsError
from zebra.pretrained.precision import MIN_COSINE
from zebra.pretrained.tensors import write_tensors

GOLDEN_TEXT = "a photo of a horse"
MAX_ABS_DIFF = 1e-4
"""Largest difference of a component in fp32. Differences between processors are far smaller."""


class BundleEncoder(Protocol):
    """The methods of a bundle that golden vectors test, and its precisions."""

    precision: InferencePrecision
    text_precision: InferencePrecision

    def encode_images(self, images: list[Image.Image]) -> Tensor:
        """Return unit vectors [N, E]."""

    def encode_texts(self, texts: list[str]) -> Tensor:
        """Return unit vectors [N, E]."""


def write_golden(encoder: BundleEncoder, path: Path) -> None:
    """Write the golden image, the golden text and their vectors."""
    image = make_golden_image()
    tensors = {
        # The names are part of the file format, which existing folders have.
        "picture": torch.from_numpy(np.array(image)),
        "image_vector": encoder.encode_images([image])[0],
        "text_vector": encoder.encode_texts([GOLDEN_TEXT])[0],
    }
    write_tensors(tensors, path, {"text": json.dumps(GOLDEN_TEXT)})


def verify_golden(encoder: BundleEncoder, path: Path) -> None:
    """Recompute the vectors; require MAX_ABS_DIFF per component in fp32, MIN_COSINE in a smaller precision.

    Raises:
        WeightsError: The file is damaged, or a vector differs; the message names image or text and the difference.
    """
    text, golden = _read_golden(path)
    actual = {
        "image_vector": encoder.encode_images([Image.fromarray(golden["picture"].numpy())])[0],
        "text_vector": encoder.encode_texts([text])[0],
    }
    for name, precision, cause in (
        ("image_vector", encoder.precision, "weights or preprocess.json"),
        ("text_vector", encoder.text_precision, "weights or tokenizer.json"),
    ):
        message = f"{path}: the {name.replace('_', ' ')}"
        if golden[name].shape != actual[name].shape:
            raise WeightsError(
                f"{message} has shape {tuple(golden[name].shape)}, but the model computes {tuple(actual[name].shape)}. "
                "Copy the folder again."
            )
        difference = float((actual[name] - golden[name]).abs().max())
        if precision == "fp32" and not difference <= MAX_ABS_DIFF:
            raise WeightsError(
                f"{message} differs from the recorded one by {difference:.2g}. Since the folder was written, {cause} "
                "or the software that computes it has changed. Copy the folder again, or pass verify=False to accept "
                "the difference."
            )
        cosine = float(actual[name] @ golden[name])
        if precision != "fp32" and not cosine >= MIN_COSINE:
            raise WeightsError(
                f"{message} in {precision} has a cosine of {cosine:.4f} to the recorded one, below "
                f"{MIN_COSINE}. Load this model with precision='fp32' or 'auto'."
            )


def _read_golden(path: Path) -> tuple[str, dict[str, Tensor]]:
    """Return the golden text and the tensors by name."""
    try:
        with safe_open(str(path), framework="pt") as file:
            text = json.loads((file.metadata() or {})["text"])
            golden = {name: file.get_tensor(name) for name in ("picture", "image_vector", "text_vector")}
    except (SafetensorError, OSError, KeyError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path} has no golden vectors ({error!r}). Copy the folder again.") from error
    picture = golden["picture"]
    is_image = picture.dtype == torch.uint8 and picture.ndim == 3 and picture.shape[2] == 3 and picture.numel() > 0
    if not is_image or not isinstance(text, str):
        raise WeightsError(f"{path} has no golden image or no golden text. Copy the folder again.")
    return text, golden


def make_golden_image() -> Image.Image:
    """Draw a fixed image of 80 × 60 pixels. It is not square and has detail, so that it also tests preprocessing."""
    y, x = np.mgrid[0:60, 0:80]
    waves = [128 + 60 * np.sin(x / 3.0) + 60 * np.cos(y / 5.0), 3.0 * x, 4.0 * y]
    return Image.fromarray(np.stack(waves, axis=-1).clip(0, 255).astype(np.uint8))
