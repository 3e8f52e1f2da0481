"""Dynamic int8 quantization of the matrices of image towers.

Weights are rounded once, with a scale per row; activations at every call, with a scale per token. So no calibration
images are needed, and a token with large values does not reduce the precision of other tokens.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zebra.models.image.naflex import NaflexVision
from zebra.models.image.resnet import ModifiedResNet
from zebra.models.image.siglip import SiglipVision
from zebra.models.image.vit import VisionTransformer
from zebra.models.transformer import ResidualBlock

ACTIVATION_QUANT_MAX = 127
"""Activations are rounded to −127 … 127; weights too if the processor sums the products exactly."""


@dataclass(frozen=True, slots=True)
class Int8Weight:
    """Weights [O, I] of a linear layer that `F.linear` accepts; torch raises TypeError for any other use."""

    weight_IO: Tensor
    """int8, transposed."""
    scale_O: Tensor
    """fp32 factor of each row's integers."""

    @classmethod
    def from_float(cls, weight_OI: Tensor) -> "Int8Weight":
        """Quantize weights of any floating type."""
        weight_OI = weight_OI.detach().float()
        scale_O = weight_OI.abs().amax(dim=1).div_(weight_quant_max())
        return cls((weight_OI / scale_O[:, None]).round_().to(torch.int8).t(), scale_O)

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Implement `F.linear(x, weight, bias)` by torch's protocol for tensor-like objects."""
        if func is not F.linear:
            return NotImplemented

        def linear(input: Tensor, weight: Int8Weight, bias: Tensor | None = None) -> Tensor:
            return weight.linear(input, bias)

        return linear(*args, **(kwargs or {}))

    def linear(self, x: Tensor, bias_O: Tensor | None) -> Tensor:
        """Return the product of x [..., I] with the weights, plus the bias if there is one, fp32 [..., O]."""
        x_NI = x.reshape(-1, x.shape[-1])
        # aminmax and norms along rows are ten times slower in torch. A row of zeros has the scale 0, which turns the
        # integers that 0 / 0 was converted to into 0.
        scale_N1 = x_NI.abs().amax(dim=1, keepdim=True).div_(ACTIVATION_QUANT_MAX)
        product_NO = torch._int_mm((x_NI / scale_N1).round_().to(torch.int8), self.weight_IO)
        scaled_NO = product_NO.float().mul_(scale_N1)
        y_NO = scaled_NO.mul_(self.scale_O) if bias_O is None else torch.addcmul(bias_O, scaled_NO, self.scale_O)
        return y_NO.view(*x.shape[:-1], -1)


class Int8PatchEmbed(nn.Module):
    """Patch embedding, a convolution with stride = kernel, as a matrix product: [B, 3, H, W] → [B, D, h, w]."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        (self.patch_size, _) = conv.kernel_size
        self.weight = Int8Weight.from_float(conv.weight.flatten(1))
        self.bias_D = conv.weight.new_zeros(len(conv.weight)) if conv.bias is None else conv.bias.detach()

    def forward(self, images_B3HW: Tensor) -> Tensor:
        """Embed every patch; pixels beyond the last complete patch are ignored, as by a convolution."""
        B, C, H, W = images_B3HW.shape
        side, h, w = self.patch_size, H // self.patch_size, W // self.patch_size
        cropped = images_B3HW[:, :, : h * side, : w * side].reshape(B, C, h, side, w, side)
        patches_BhwI = cropped.permute(0, 2, 4, 1, 3, 5).reshape(B, h, w, C * side * side)
        return self.weight.linear(patches_BhwI, self.bias_D).permute(0, 3, 1, 2)


def can_quantize(tower: nn.Module) -> bool:
    """Return whether a tower has matrices whose products take a good part of its time."""
    has_matrices = any(type(module) is nn.Linear for module in tower.modules())
    return has_matrices and not isinstance(tower, ModifiedResNet)  # which has them in its pool only


def quantize(tower: nn.Module) -> None:
    """Quantize the weight matrices of a tower in place; of zebra's own towers, not embeddings, pooling, projection."""
    if isinstance(tower, NaflexVision):
        _quantize_weight(tower.patch_embed, "weight")
        quantize_linear_layers(tower.transformer)
    elif isinstance(tower, VisionTransformer | SiglipVision):
        tower.conv1 = Int8PatchEmbed(tower.conv1)  # type: ignore[assignment]
        quantize_linear_layers(tower.transformer)
    else:
        quantize_linear_layers(tower)


def quantize_linear_layers(module: nn.Module) -> None:
    """Quantize, in place, all linear layers below a module; of residual blocks, also queries, keys and values."""
    for child in module.modules():
        if isinstance(child, ResidualBlock):
            _quantize_weight(child.attn, "in_proj_weight")
        elif type(child) is nn.Linear:  # a subclass may use its weight otherwise
            _quantize_weight(child, "weight")


def _quantize_weight(module: nn.Module, name: str) -> None:
    weight = Int8Weight.from_float(getattr(module, name))
    delattr(module, name)  # torch refuses to replace a parameter by anything else
    setattr(module, name, weight)


@cache
def weight_quant_max() -> int:
    """Return the largest integer that weights are rounded to: 127, or 63 on processors without VNNI.

    Without VNNI, oneDNN adds pairs of products in 16 bits, which 2 · 255 · 127 exceeds.
    """
    largest = torch.full((64, 256), 127, dtype=torch.int8)
    is_exact = bool((torch._int_mm(largest, largest.t()) == 256 * 127 * 127).all())
    return 127 if is_exact else 63
