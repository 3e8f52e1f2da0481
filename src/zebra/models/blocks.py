"""Pre-LN transformer blocks shared by the image and the text tower (CLIP §2.4): tokens [B, L, D] in and out.

Parameter names are those of the published checkpoints, so that weights move between libraries untouched.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zebra.config.model import Activation, TransformerConfig


def quick_gelu(x: Tensor) -> Tensor:
    """Return x · sigmoid(1.702 x), the approximation OpenAI's weights were trained with."""
    return x * torch.sigmoid(1.702 * x)


def gelu_tanh(x: Tensor) -> Tensor:
    """Return GELU by its tanh approximation, the one SigLIP's weights were trained with."""
    return F.gelu(x, approximate="tanh")


ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "quick_gelu": quick_gelu,
    "gelu": F.gelu,
    "gelu_tanh": gelu_tanh,
}


class Attention(nn.Module):
    """Multi-head self-attention with one fused q, k, v projection."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x_BLD: Tensor, *, causal: bool) -> Tensor:
        """Let every token look at all tokens, or, if causal, at itself and those before it."""
        B, L, D = x_BLD.shape
        qkv = F.linear(x_BLD, self.in_proj_weight, self.in_proj_bias)
        query, key, value = qkv.view(B, L, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=causal)
        return self.out_proj(mixed.transpose(1, 2).reshape(B, L, D))


class MLP(nn.Module):
    """Two linear layers with an activation between them."""

    def __init__(self, width: int, hidden: int, activation: Activation) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, hidden)
        self.c_proj = nn.Linear(hidden, width)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Transform every token on its own."""
        return self.c_proj(self.activation(self.c_fc(x_BLD)))


class ResidualBlock(nn.Module):
    """Attention, then an MLP, each on a normalised copy that is added back."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.attn = Attention(config.width, config.heads)
        self.ln_2 = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.mlp = MLP(config.width, config.hidden, config.activation)

    def forward(self, x_BLD: Tensor, *, causal: bool) -> Tensor:
        """Refine the tokens [B, L, D]."""
        x_BLD = x_BLD + self.attn(self.ln_1(x_BLD), causal=causal)
        return x_BLD + self.mlp(self.ln_2(x_BLD))


class Transformer(nn.Module):
    """A stack of residual blocks."""

    def __init__(self, config: TransformerConfig, *, causal: bool) -> None:
        super().__init__()
        self.causal = causal
        self.resblocks = nn.ModuleList(ResidualBlock(config) for _ in range(config.layers))

    def blocks(self) -> Iterator[ResidualBlock]:
        """Yield the blocks from input to output."""
        for block in self.resblocks:
            assert isinstance(block, ResidualBlock)
            yield block

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Refine the tokens [B, L, D] block by block."""
        for block in self.blocks():
            x_BLD = block(x_BLD, causal=self.causal)
        return x_BLD
