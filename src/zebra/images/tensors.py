"""Preprocessed images as torch tensors."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Pixels = Tensor | list[Tensor]
"""Preprocessed images: uint8 [B, 3, H, W], or, for NaFlex, a list of uint8 [3, H, W] of various shapes."""


def stack_pixels(images: Sequence[NDArray[np.uint8]]) -> Pixels:
    """Stack images [3, H, W] of equal shape; return a list of tensors if their shapes differ."""
    if all(image.shape == images[0].shape for image in images):
        return torch.from_numpy(np.stack(images))
    return [torch.from_numpy(image) for image in images]
