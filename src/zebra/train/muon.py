"""Muon: orthogonalized momentum for matrices and filters of convolutions."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from zebra.pretrained.device import has_native_bf16

MOMENTUM = 0.95
NUM_ITERATIONS = 5
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of x, x³ and x⁵; the polynomial maps singular values in (0, 1] to about 0.7 to 1.2 in five iterations."""


class Muon(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024), with updates of AdamW's size (Liu et al. 2025, arXiv 2502.16982, §2.2).

    The updates of matrices are those of `torch.optim.Muon(adjust_lr_fn="match_rms_adamw")`, with two differences.
    A filter [out, in, h, w] is a matrix [out, in * h * w]. And products are bf16 only where the hardware multiplies
    bf16, and otherwise fp32: emulated bf16 takes several times as long (LOG.md).
    """

    def __init__(self, params: list[dict[str, Any]]) -> None:
        """Each group of `params` has `weight_decay`; the training loop sets `lr` before every step."""
        super().__init__(params, {"lr": 0.0, "momentum": MOMENTUM})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update all parameters that have a gradient."""
        assert closure is None, "closures are not supported"
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)

    def _update(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        momentum = state["momentum_buffer"].lerp_(gradient, 1 - group["momentum"])
        update = orthogonalize(gradient.lerp(momentum, group["momentum"]).flatten(1))
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.sub_(update.view(parameter.shape), alpha=group["lr"] * 0.2 * math.sqrt(max(update.shape)))


def orthogonalize(matrix: Tensor) -> Tensor:
    """Return a matrix with the same singular vectors and singular values of about 1, [M, N], fp32.

    A Newton-Schulz iteration approximates U Vᵀ of the singular value decomposition U S Vᵀ.
    """
    x = matrix.to(torch.bfloat16 if has_native_bf16(matrix.device) else torch.float32)
    is_tall = len(matrix) > matrix.shape[1]
    x = x.T if is_tall else x
    x = (x / x.norm().clamp(min=1e-7)).contiguous()
    linear, cubic, quintic = COEFFICIENTS
    for _ in range(NUM_ITERATIONS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=cubic, alpha=quintic), x, beta=linear)
    x = x.T if is_tall else x
    return x.float().contiguous()


def muon_names(model: nn.Module) -> frozenset[str]:
    """Return the names of the parameters that Muon trains: matrices and filters that mix the channels of hidden layers.

    Embeddings and filters of the input image or of single channels (depthwise) are left to AdamW.
    """
    excluded = {
        f"{name}.weight"
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding | nn.EmbeddingBag)
        or (isinstance(module, nn.Conv2d) and (module.in_channels <= 3 or module.groups > 1))
    }
    return frozenset(
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and parameter.ndim in (2, 4) and name not in excluded and "embed" not in name
    )
