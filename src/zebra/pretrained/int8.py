"""The matrices of a vision transformer in; the same in int8 with a scale per row, multiplied in integers, out.

Weights are rounded once; activations at every call, by the largest value of each token ("dynamic" quantisation), so no
pictures are needed to calibrate, and one token with large values costs no other token precision.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zebra.models.image.siglip import SiglipVision
from zebra.models.image.vit import VisionTransformer

ACTIVATION_QUANT_MAX = 127
"""Activations are rounded to −127 … 127, and weights too where the processor sums the products exactly."""


@dataclass(frozen=True, slots=True)
class Int8Weight:
    """Weights of a linear layer, [O, I], as `F.linear` takes them; any other use of them is an error of torch's."""

    weight_IO: Tensor
    """int8, transposed."""
    scale_O: Tensor
    """fp32: what a row's integers are multiplied with."""

    @classmethod
    def from_float(cls, weight_OI: Tensor) -> "Int8Weight":
        """Round weights of any floating type."""
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
        """Stand in for a tensor in `F.linear(x, weight, bias)`, by torch's protocol for tensor-likes."""
        if func is not F.linear:
            return NotImplemented
        x, matrix, bias = args
        return matrix.linear(x, bias)

    def linear(self, x: Tensor, bias_O: Tensor) -> Tensor:
        """Return x [..., I] times the weights, plus the bias, as fp32 [..., O]."""
        x_NI = x.reshape(-1, x.shape[-1])
        # Not aminmax or a norm: torch computes those along rows ten times slower. A row of zeros has a scale of 0,
        # which makes 0 of whatever integers 0 / 0 became.
        scale_N1 = x_NI.abs().amax(dim=1, keepdim=True).div_(ACTIVATION_QUANT_MAX)
        product_NO = torch._int_mm((x_NI / scale_N1).round_().to(torch.int8), self.weight_IO)
        y_NO = torch.addcmul(bias_O, product_NO.float().mul_(scale_N1), self.scale_O)
        return y_NO.view(*x.shape[:-1], -1)


class Int8PatchEmbed(nn.Module):
    """A convolution whose stride is its kernel, as the matrix product it is: pixels [B, 3, H, W] to [B, D, h, w]."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        (self.patch_size, _) = conv.kernel_size
        self.weight = Int8Weight.from_float(conv.weight.flatten(1))
        self.bias_D = conv.weight.new_zeros(len(conv.weight)) if conv.bias is None else conv.bias.detach()

    def forward(self, images_B3HW: Tensor) -> Tensor:
        """Cut into patches and multiply each; pixels beyond the last whole patch are left out, as by a convolution."""
        B, C, H, W = images_B3HW.shape
        side, h, w = self.patch_size, H // self.patch_size, W // self.patch_size
        cut = images_B3HW[:, :, : h * side, : w * side].reshape(B, C, h, side, w, side)
        patches_BhwI = cut.permute(0, 2, 4, 1, 3, 5).reshape(B, h, w, C * side * side)
        return self.weight.linear(patches_BhwI, self.bias_D).permute(0, 3, 1, 2)


def quantize(tower: VisionTransformer | SiglipVision) -> None:
    """Replace the matrices of a tower, in place; norms, embeddings, pooling and projection stay as they are."""
    tower.conv1 = Int8PatchEmbed(tower.conv1)  # type: ignore[assignment]
    for block in tower.transformer.blocks():
        for module, name in (
            (block.attn, "in_proj_weight"),
            (block.attn.out_proj, "weight"),
            (block.mlp.c_fc, "weight"),
            (block.mlp.c_proj, "weight"),
        ):
            matrix = Int8Weight.from_float(getattr(module, name))
            delattr(module, name)  # a parameter: torch would not let anything else take its place
            setattr(module, name, matrix)


@cache
def weight_quant_max() -> int:
    """Return the largest integer weights are rounded to: 127, or 63 where the processor has no VNNI.

    There oneDNN adds two products of neighbours in 16 bits, and 2 · 255 · 127 does not fit.
    """
    most = torch.full((64, 256), 127, dtype=torch.int8)
    exact = bool((torch._int_mm(most, most.t()) == 256 * 127 * 127).all())
    return 127 if exact else 63
