"""Linear layers of a tower with weights in another format, for inference."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zebra.models.image.naflex import NaflexVision
from zebra.models.image.siglip import SiglipVision
from zebra.models.image.vit import VisionTransformer
from zebra.models.text.bert import BertText
from zebra.models.text.causal import TextTransformer
from zebra.models.text.coca import CocaText
from zebra.models.text.siglip import SiglipText
from zebra.models.transformer import MLP, ResidualBlock, gelu_tanh, quick_gelu


class LinearWeight(ABC):
    """Weights [O, I] of a linear layer that `F.linear` accepts; torch raises TypeError for any other use."""

    __slots__ = ()

    @abstractmethod
    def linear(self, x: Tensor, bias_O: Tensor | None, *, overwrite: bool = False) -> Tensor:
        """Return the product of x [..., I] with the weights, plus the bias if there is one, [..., O].

        Args:
            overwrite: The memory of x, which has the shape [N, I], may be used.
        """

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

        def linear(input: Tensor, weight: LinearWeight, bias: Tensor | None = None) -> Tensor:
            return weight.linear(input, bias)

        return linear(*args, **(kwargs or {}))


class InferenceMLP(nn.Module):
    """An `MLP` with converted weights, computed in blocks of tokens whose hidden activations stay in the cache.

    QuickGELU is computed as SiLU, whose argument's factor of 1.702 the weights include. The tanh approximation of GELU,
    which takes several times as long as the exact function, is replaced by it: they differ by at most 5e-4, less than
    the rounding to int8 or bf16.
    """

    fc_bias: Tensor
    proj_bias: Tensor

    def __init__(self, mlp: MLP, convert: Callable[[Tensor], LinearWeight], block_size: int) -> None:
        super().__init__()
        fc, proj = mlp.c_fc.weight.detach(), mlp.c_proj.weight.detach()
        fc_bias, proj_bias = mlp.c_fc.bias.detach().float(), mlp.c_proj.bias.detach().float()
        self.activation: Callable[[Tensor], Tensor] = mlp.activation
        if mlp.activation is quick_gelu:
            self.activation = F.silu
            fc, fc_bias, proj = fc * 1.702, fc_bias * 1.702, proj / 1.702
        elif mlp.activation is gelu_tanh:
            self.activation = F.gelu
        self.fc, self.proj, self.block_size = convert(fc), convert(proj), block_size
        self.register_buffer("fc_bias", fc_bias)
        self.register_buffer("proj_bias", proj_bias)

    def forward(self, x: Tensor) -> Tensor:
        """Transform each token of [..., D] separately."""
        blocks = torch.split(x.reshape(-1, x.shape[-1]), self.block_size)
        return torch.cat([self._transform(block) for block in blocks]).view(x.shape)

    def _transform(self, x_ND: Tensor) -> Tensor:
        hidden_NH = self.activation(self.fc.linear(x_ND, self.fc_bias))
        return self.proj.linear(hidden_NH, self.proj_bias, overwrite=True)


def convert_linear_layers(tower: nn.Module, convert: Callable[[Tensor], LinearWeight], block_size: int) -> None:
    """Convert the weights of a tower's linear layers in place; not those of pooling and projection of zebra's towers.

    Args:
        convert: Returns the converted weights of [O, I].
        block_size: Tokens whose hidden activations an MLP computes at once.
    """
    for child in list(_find_layers(tower).modules()):
        if isinstance(child, ResidualBlock):
            convert_weight(child.attn, "in_proj_weight", convert)
            child.mlp = InferenceMLP(child.mlp, convert, block_size)  # type: ignore[assignment]
        elif type(child) is nn.Linear:  # a subclass may use its weight otherwise
            convert_weight(child, "weight", convert)


def convert_weight(module: nn.Module, name: str, convert: Callable[[Tensor], LinearWeight]) -> None:
    """Replace a parameter by its converted weights."""
    weight = convert(getattr(module, name).detach())
    delattr(module, name)  # torch refuses to replace a parameter by anything else
    setattr(module, name, weight)


def _find_layers(tower: nn.Module) -> nn.Module:
    own = (
        NaflexVision, VisionTransformer, SiglipVision,
        TextTransformer, CocaText, SiglipText, BertText,
    )  # fmt: skip
    return tower.transformer if isinstance(tower, own) else tower
