"""Batches of texts and images as inputs of graphs."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from zebra.images.patch_grid import cut_patches
from zebra.images.preprocess import Preprocess
from zebra.lite.tower import Inputs
from zebra.pretrained.onnx.model_folder import GRID, PIXELS, GraphPrecision

MAX_BATCH_TEXTS = 16
"""Texts per pass. Larger batches are not faster on one core, and take memory."""
MAX_PADDING = 1 / 8
"""Largest share of padding in a batch."""


def build_image_inputs(pixels_3HW: NDArray[np.uint8], preprocess: Preprocess) -> Inputs:
    """Return the inputs of a graph for one image from `Preprocess.resize_and_crop`.

    One image per pass is as fast as a batch on a core, and takes the least memory. In int8, where activations have one
    scale per pass, it also keeps a vector independent of the other images.
    """
    normalized_3HW = preprocess.normalize_array(pixels_3HW[None])[0]
    if preprocess.patch_size is None:
        return {PIXELS: normalized_3HW[None]}
    grid_B2 = np.array([[side // preprocess.patch_size for side in pixels_3HW.shape[1:]]])
    return {PIXELS: cut_patches(normalized_3HW, preprocess.patch_size)[None], GRID: grid_B2}


def text_batches(lengths_N: NDArray[np.int64], precision: GraphPrecision) -> Iterator[NDArray[np.int64]]:
    """Yield the rows of batches of texts of similar lengths, the shortest texts first.

    In int8 each text is a batch, so that its vector does not depend on others; activations have one scale per pass.
    """
    max_texts = 1 if precision == "int8" else MAX_BATCH_TEXTS
    order_N = lengths_N.argsort(kind="stable")
    start = 0
    while start < len(order_N):
        end, num_tokens = start, 0
        while end < len(order_N) and end - start < max_texts:
            length = int(lengths_N[order_N[end]])
            num_tokens += length
            if num_tokens < (1 - MAX_PADDING) * length * (end - start + 1):
                break
            end += 1
        yield order_N[start:end]
        start = end
