"""Golden vectors of an exported model, recomputed once per machine."""

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zebra.errors import WeightsError
from zebra.pretrained.onnx.model_folder import GOLDEN_FILE, GRID, PIXELS, TOKENS, Tower

if TYPE_CHECKING:
    from zebra.lite.model import LiteModel

MAX_FP32_DIFF = 1e-4
"""Largest difference of a component in fp32. Differences between processors are far smaller."""
MIN_GOLDEN_COSINE = 0.999
"""Smallest cosine in fp16 and int8."""


def read_golden_inputs(folder: Path, tower: Tower) -> dict[str, NDArray[Any]]:
    """Return what the graph of a tower takes for the golden image or text, a batch of one."""
    golden = _read_golden(folder / GOLDEN_FILE)
    names = (PIXELS, GRID) if tower == "image" else (TOKENS,)
    return {name: golden[name] for name in names if name in golden}


def compare_golden_vectors(model: "LiteModel") -> None:
    """Recompute the golden vectors of every tower of a model.

    Raises:
        WeightsError: The file is damaged, or a vector differs; the message names the tower and the difference.
    """
    path = model.folder / GOLDEN_FILE
    golden = _read_golden(path)
    for tower, graph_precision in model.precisions.items():
        expected_E = golden[f"{tower}_vector"]
        if tower == "image":
            [actual_E] = model.encode_images([Image.fromarray(golden["image"])])
        else:
            [actual_E] = model.encode_texts([str(golden["text"])])
        if actual_E.shape != expected_E.shape:
            raise WeightsError(
                f"{path}: the {tower} vector has {len(expected_E)} components, but the graph computes {len(actual_E)}. "
                "Copy the folder again."
            )
        difference, cosine = float(np.abs(actual_E - expected_E).max()), float(actual_E @ expected_E)
        is_equal = difference <= MAX_FP32_DIFF if graph_precision == "fp32" else cosine >= MIN_GOLDEN_COSINE
        if not is_equal:
            other = "'auto'" if graph_precision == "fp32" else "'fp32'"
            raise WeightsError(
                f"{path}: the {tower} vector in {graph_precision} differs from the recorded one by {difference:.2g}, "
                f"cosine {cosine:.5f}. This version of onnxruntime, Pillow or tokenizers computes otherwise. Install "
                f"others, load the model with precision={other}, or pass verify=False to accept the difference."
            )


def _read_golden(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            golden = {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise WeightsError(f"{path} has no golden vectors ({error!r}). Copy the folder again.") from error
    missing = {"image", "text", "image_vector", "text_vector"} - golden.keys()
    if missing:
        raise WeightsError(f"{path} lacks {', '.join(sorted(missing))}. Copy the folder again.")
    return golden
