"""Inputs on which exported graphs are compared with torch, and golden vectors."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from zebra.images.naflex import stack_patches
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.golden import GOLDEN_TEXT, make_golden_image
from zebra.pretrained.onnx.model_folder import GRID, PIXELS, TOKENS
from zebra.pretrained.onnx.towers import has_fixed_length

TEXTS = (
    "a",
    "zebra",
    "a photo of a cat.",
    "two dogs run through fresh snow",
    "an aerial photograph of a harbor with 12 white boats",
    "¿Dónde está la biblioteca?",
    "a low resolution, black and white, blurry close-up photo of the number seven",
    "東京の夜景",
    "a red cube left of a blue sphere, both on a wooden table next to the window, seen from above in the evening light",
    "!!! 50 % off ??? www.example.com",
)
Inputs = dict[str, NDArray[np.generic]]


def image_inputs(bundle: Bundle, images: Sequence[Image.Image]) -> Iterator[Inputs]:
    """Yield the inputs of the image graph for each image."""
    preprocess = bundle.preprocess
    for image in images:
        pixels_3HW = torch.from_numpy(preprocess.resize_and_crop(image))
        if preprocess.patch_size is None:
            yield {PIXELS: preprocess.normalize(pixels_3HW[None]).numpy()}
        else:
            batch = preprocess.normalize_patches(stack_patches([pixels_3HW], preprocess.patch_size))
            yield {PIXELS: batch.patches_BPI.numpy(), GRID: batch.grid_B2.numpy()}


def text_inputs(bundle: Bundle, texts: Sequence[str]) -> Iterator[Inputs]:
    """Yield the inputs of the text graph for each text, padded only if the tower needs it."""
    tokenizer = bundle.require_tokenizer()
    for text in texts:
        ids = tokenizer.encode([text], truncate=True).ids.astype(np.int64)
        missing = bundle.context_length - ids.shape[1] if has_fixed_length(bundle.model.text) else 0
        yield {TOKENS: np.pad(ids, ((0, 0), (0, missing)), constant_values=tokenizer.pad_token_id)}


def make_images() -> list[Image.Image]:
    """Return ten images of various shapes: noise, edges, smooth and single colors, so that activations vary."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:90, 0:120] / 30
    gray = [
        rng.integers(0, 256, (64, 64)),
        rng.integers(0, 2, (120, 90)) * 255,
        np.zeros((50, 70)),
        np.full((70, 50), 255),
        128 + 120 * np.sin(9 * x) * np.cos(7 * y),
        255 * ((x.astype(int) + y.astype(int)) % 2),
    ]
    color = [
        rng.integers(0, 256, (100, 60, 3)),
        np.stack([60 * x, 80 * y, 255 - 60 * x], axis=-1),
        np.stack([255 * (x > 2), 255 * (y > 1), 255 * (x > y)], axis=-1),
        rng.normal(128, 40, (8, 8, 3)).repeat(20, axis=0).repeat(15, axis=1),
    ]
    arrays = [*(np.stack([array] * 3, axis=-1) for array in gray), *color]
    return [Image.fromarray(array.clip(0, 255).astype(np.uint8)) for array in arrays]


def write_golden_arrays(bundle: Bundle, path: Path) -> None:
    """Write an image, a text, what the graphs take for them, and their vectors, for numpy.

    image: uint8 [H, W, 3]; text: str; vectors of torch in fp32: `image_vector` and `text_vector`, float32 [E]; and the
    inputs of the graphs under their names.
    """
    image = make_golden_image()
    [inputs], [tokens] = image_inputs(bundle, [image]), text_inputs(bundle, [GOLDEN_TEXT])
    arrays: dict[str, Any] = {
        "image": np.array(image),
        "text": np.array(GOLDEN_TEXT),
        "image_vector": bundle.encode_images([image])[0].numpy(),
        "text_vector": bundle.encode_texts([GOLDEN_TEXT])[0].numpy(),
        **inputs,
        **tokens,
    }
    np.savez(path, **arrays)
