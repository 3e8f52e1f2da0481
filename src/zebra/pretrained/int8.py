"""Dynamic int8 quantization of the matrices of image and text towers.

Weights are rounded once, with a scale per row; activations at every call, with a scale per token. So no calibration
data are needed, a token with large values does not reduce the precision of other tokens, and the vector of an image
does not depend on its batch.
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
from zebra.models.text.bert import BertText
from zebra.models.text.causal import TextTransformer
from zebra.models.text.coca import CocaText
from zebra.models.text.siglip import SiglipText
from zebra.models.transformer import MLP, ResidualBlock, gelu_tanh, quick_gelu

ACTIVATION_QUANT_MAX = 127
"""Activations are rounded to −127 … 127; weights too if the processor sums the products exactly."""
TOKENS_PER_MLP_BLOCK = 256
"""Tokens whose hidden activations are computed at once: few enough for the L2 cache."""


@dataclass(frozen=True, slots=True)
class Int8Weight:
    """Weights [O, I] of a linear layer that `F.linear` accepts; torch raises TypeError for any other use."""

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


class Int8MLP(nn.Module):
    """An `MLP` in int8, computed in blocks of tokens whose hidden activations stay in the cache.

    QuickGELU is computed as SiLU, whose argument's factor of 1.702 the weights include. The tanh approximation of GELU,
    which takes several times as long as the exact function, is replaced by it: they differ by at most 5e-4, less than
    the rounding to int8.
    """

    fc_bias: Tensor
    proj_bias: Tensor

    def __init__(self, mlp: MLP) -> None:
        super().__init__()
        self.fc, self.proj = Int8Weight.from_float(mlp.c_fc.weight), Int8Weight.from_float(mlp.c_proj.weight)
        fc_bias, proj_bias = mlp.c_fc.bias.detach().float(), mlp.c_proj.bias.detach().float()
        self.activation: Callable[[Tensor], Tensor] = mlp.activation
        if mlp.activation is quick_gelu:
            self.activation = F.silu
            self.fc.scale_O.mul_(1.702)
            self.proj.scale_O.div_(1.702)
            fc_bias = fc_bias * 1.702
        elif mlp.activation is gelu_tanh:
            self.activation = F.gelu
        self.register_buffer("fc_bias", fc_bias)
        self.register_buffer("proj_bias", proj_bias)

    def forward(self, x: Tensor) -> Tensor:
        """Transform each token of [..., D] separately."""
        blocks = torch.split(x.reshape(-1, x.shape[-1]), TOKENS_PER_MLP_BLOCK)
        return torch.cat([self._transform(block) for block in blocks]).view(x.shape)

    def _transform(self, x_ND: Tensor) -> Tensor:
        hidden_NH = self.activation(self.fc.linear(x_ND, self.fc_bias))
        return self.proj.linear(hidden_NH, self.proj_bias, overwrite=True)


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
    match tower:
        case NaflexVision():
            _quantize_weight(tower.patch_embed, "weight")
            quantize_linear_layers(tower.transformer)
        case VisionTransformer() | SiglipVision():
            tower.conv1 = Int8PatchEmbed(tower.conv1)  # type: ignore[assignment]
            quantize_linear_layers(tower.transformer)
        case TextTransformer() | CocaText() | SiglipText() | BertText():
            quantize_linear_layers(tower.transformer)
        case _:
            quantize_linear_layers(tower)


def quantize_linear_layers(module: nn.Module) -> None:
    """Quantize, in place, all linear layers below a module; of residual blocks, also queries, keys and values."""
    for child in list(module.modules()):
        if isinstance(child, ResidualBlock):
            _quantize_weight(child.attn, "in_proj_weight")
            child.mlp = Int8MLP(child.mlp)  # type: ignore[assignment]
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


@cache
def has_packed_product() -> bool:
    """Return whether oneDNN's product with packed weights is exact and faster than `torch._int_mm`.

    Without VNNI it is slower (123 instead of 150 billion operations per second with AVX2), and without AVX it is a loop
    without vector instructions.
    """
    return weight_quant_max() == 127 and bool(torch.cpu.get_capabilities().get("avx512_vnni"))
