"""Dynamic int8 quantization of the matrices of image and text towers.

Weights are rounded once, with a scale per row; activations at every call, with a scale per token. So no calibration
data are needed, a token with large values does not reduce the precision of other tokens, and the vector of an image
does not depend on its batch.
"""

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from zebra.models.image.naflex import NaflexVision
from zebra.models.image.resnet import ModifiedResNet
from zebra.models.image.siglip import SiglipVision
from zebra.models.image.vit import VisionTransformer
from zebra.pretrained.linear_layers import LinearWeight, convert_linear_layers, convert_weight

ACTIVATION_QUANT_MAX = 127
"""Activations are rounded to −127 … 127; weights too if the processor sums the products exactly."""
TOKENS_PER_MLP_BLOCK = 256
"""Tokens whose hidden activations are computed at once: few enough for the L2 cache."""


@dataclass(frozen=True, slots=True)
class Int8Weight(LinearWeight):
    """Quantized weights [O, I] of a linear layer."""

    weight: Tensor
    """int8 [I, O]; with `packed`, in the layout of oneDNN."""
    scale_O: Tensor
    """fp32 factor of each row's integers."""
    zero_point_O: Tensor | None = None
    """Zeros, int64: the zero points that the product with packed weights takes. None if they are not packed."""

    @classmethod
    def from_float(cls, weight_OI: Tensor) -> "Int8Weight":
        """Quantize weights of any floating type."""
        weight_OI = weight_OI.detach().float()
        scale_O = weight_OI.abs().amax(dim=1).div_(weight_quant_max())
        int8_OI = (weight_OI / scale_O[:, None]).round_().to(torch.int8)
        if has_packed_product():
            packed_IO = torch.ops.onednn.qlinear_prepack(int8_OI, None)
            return cls(packed_IO, scale_O, torch.zeros(len(scale_O), dtype=torch.int64))
        return cls(int8_OI.t(), scale_O)

    def linear(self, x: Tensor, bias_O: Tensor | None, *, overwrite: bool = False) -> Tensor:
        """Return the product of x [..., I] with the weights, plus the bias if there is one, fp32 [..., O].

        Args:
            overwrite: Use the memory of x, which has the shape [N, I], for the scaled tokens.
        """
        x_NI = x.reshape(-1, x.shape[-1])
        # abs, aminmax and norms along rows are slower in torch.
        max_N1 = torch.maximum(x_NI.amax(dim=1, keepdim=True), x_NI.amin(dim=1, keepdim=True).neg_())
        # A row of zeros has the scale 0, which turns the integers that 0 · ∞ was converted to into 0.
        scaled_NI = torch.mul(x_NI, ACTIVATION_QUANT_MAX / max_N1, out=x_NI if overwrite else None)
        int8_NI, scale_N1 = scaled_NI.round_().to(torch.int8), max_N1 / ACTIVATION_QUANT_MAX
        if self.zero_point_O is not None:
            y_NO = _packed_product(int8_NI, self.weight, self.scale_O, self.zero_point_O)
            y_NO = y_NO.mul_(scale_N1) if bias_O is None else torch.addcmul(bias_O, y_NO, scale_N1)
        else:
            y_NO = torch._int_mm(int8_NI, self.weight).float().mul_(scale_N1)
            y_NO = y_NO.mul_(self.scale_O) if bias_O is None else torch.addcmul(bias_O, y_NO, self.scale_O)
        return y_NO.view(*x.shape[:-1], -1)


def _packed_product(int8_NI: Tensor, packed_IO: Tensor, scale_O: Tensor, zero_O: Tensor) -> Tensor:
    """Return the product with packed weights times their scale, fp32 [N, O].

    oneDNN has a fast kernel for unsigned activations only: 128 is added to them, which inverts their highest bit, and
    is subtracted by the kernel.
    """
    uint8_NI = int8_NI.bitwise_xor_(-128).view(torch.uint8)
    result: Tensor = torch.ops.onednn.qlinear_pointwise(
        uint8_NI, 1.0, 128, packed_IO, scale_O, zero_O, None, 1.0, 0, torch.float32, "none", [], ""
    )
    return result


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
        convert_weight(tower.patch_embed, "weight", Int8Weight.from_float)
    elif isinstance(tower, VisionTransformer | SiglipVision):
        tower.conv1 = Int8PatchEmbed(tower.conv1)  # type: ignore[assignment]
    convert_linear_layers(tower, Int8Weight.from_float, TOKENS_PER_MLP_BLOCK)


@cache
def weight_quant_max() -> int:
    """Return the largest integer that weights are rounded to: 127, or 63 on processors without VNNI.

    Without VNNI, oneDNN adds pairs of products in 16 bits, which 2 · 255 · 127 exceeds.
    """
    largest = torch.full((64, 256), 127, dtype=torch.int8)
    is_exact = bool((torch._int_mm(largest, largest.t()) == 256 * 127 * 127).all())
    return 127 if is_exact else 63


@cache
def has_packed_product() -> bool:
    """Return whether oneDNN's product with packed weights is exact and faster than `torch._int_mm`.

    Without VNNI it is slower (123 instead of 150 billion operations per second with AVX2), and without AVX it is a loop
    without vector instructions.
    """
    return weight_quant_max() == 127 and bool(torch.cpu.get_capabilities().get("avx512_vnni"))
