"""WiSE-FT: averages of the initial and the trained weights.

Wortsman et al. 2021, arXiv 2109.01903.
"""

import torch
from torch import Tensor, nn

from zebra.train.snapshot import TensorGroups

ALPHAS = (0.25, 0.5, 0.75, 1.0)
"""Shares of the trained weights that are compared on the validation split, besides the initial weights alone."""
PARTS = ("model", "ema")
"""Parts of a train state that hold weights."""


def initial_tensors(model: nn.Module, trained: TensorGroups) -> TensorGroups:
    """Return the initial weights under the names of the trained ones.

    The initial model has no LoRA weights. With B = 0 they add nothing; with the trained A, an average of both states
    adds its share of the trained product.
    """
    weights = model.state_dict()
    return {
        part: {
            name: weights[name].cpu() if name in weights else value if name.endswith(".A") else torch.zeros_like(value)
            for name, value in trained[part].items()
        }
        for part in PARTS
        if part in trained
    }


def average(initial: TensorGroups, trained: TensorGroups, alpha: float) -> TensorGroups:
    """Return alpha · trained + (1 - alpha) · initial; integers are those of the trained weights, unless alpha is 0."""
    if not alpha:
        return initial

    def mix(first: Tensor, second: Tensor) -> Tensor:
        return torch.lerp(first, second, alpha) if second.is_floating_point() and alpha < 1 else second

    return {part: {name: mix(value, trained[part][name]) for name, value in initial[part].items()} for part in initial}
