"""Random models and images for comparisons with the peers."""

import numpy as np
import torch
from PIL import Image
from torch import nn

TOLERANCE = 1e-5
"""Of components of unit vectors in fp32: the order of sums differs, nothing else."""
SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
"""Sizes of the encoders of transformers."""


def add_noise(model: nn.Module, matrices: float = 0) -> None:
    """Add noise to parameters that are initialized with 0 or 1, so that none hides a misplaced tensor.

    Args:
        matrices: Standard deviation of noise on all others.
    """
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point() and tensor.ndim <= 1 and "logit" not in name:
                tensor.add_(0.3 * torch.randn(tensor.shape, generator=generator))
            if name.endswith("running_var"):
                tensor.abs_().mul_(0.2)  # otherwise signals fade in an untrained network
            if tensor.ndim > 1:
                tensor.add_(matrices * torch.randn(tensor.shape, generator=generator))


def photos() -> list[Image.Image]:
    """Return a portrait and a landscape image of noise."""
    generator = np.random.default_rng(0)
    return [Image.fromarray(generator.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in ((301, 223), (97, 410))]
