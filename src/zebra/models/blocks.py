"""Pre-LN transformer blocks shared by the image and the text tower (CLIP §2.4): tokens [B, L, D] in and out.

Sequences of different lengths pass as one flat run of tokens [N, D]: only attention needs to know where each begins.
Parameter names are those of the published checkpoints, so that weights move between libraries untouched.
"""

from collections.abc import Callable, Iterator, Sequence
from types import EllipsisType
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn import functional as F

from zebra.config.model import Activation, TransformerConfig

Groups = Sequence[tuple[int, int]]
"""How many sequences of which length follow each other in a flat run of tokens."""
Kept = Tensor | tuple[slice, int] | EllipsisType
"""Indexes tokens: those whose states are wanted."""


class _QuickGELU(torch.autograd.Function):
    """x · sigmoid(1.702 x) = silu(1.702 x) / 1.702, so its derivative is that of silu at 1.702 x.

    Recorded operator by operator it would also keep the sigmoid, a fifth of what a block keeps for its gradients, and
    round a gradient in bf16 five times.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return (1.702 * x).sigmoid_().mul_(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return torch.ops.aten.silu_backward(gradient, 1.702 * x)


def quick_gelu(x: Tensor) -> Tensor:
    """Return x · sigmoid(1.702 x), the approximation OpenAI's weights were trained with."""
    return _QuickGELU.apply(x)  # type: ignore[no-untyped-call]


def gelu_tanh(x: Tensor) -> Tensor:
    """Return GELU by its tanh approximation, the one SigLIP's weights were trained with."""
    return F.gelu(x, approximate="tanh")


ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "quick_gelu": quick_gelu,
    "gelu": F.gelu,
    "gelu_tanh": gelu_tanh,
}


def attend(query: Tensor, key: Tensor, value: Tensor, *, causal: bool) -> Tensor:
    """Mix values [B, heads, L, d] by how well their keys answer each query."""
    if query.dtype is torch.bfloat16 and query.device.type == "cpu":
        # The bf16 kernel of torch 2.13 takes 3 to 6 times as long backward as its fp32 one.
        with torch.autocast("cpu", enabled=False):
            return attend(query.float(), key.float(), value.float(), causal=causal).to(query.dtype)
    return F.scaled_dot_product_attention(query, key, value, is_causal=causal)


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

    def forward(self, x: Tensor, *, causal: bool, groups: Groups | None = None, kept: Kept = ...) -> Tensor:
        """Let every token look at all tokens of its sequence, or, if causal, at itself and those before it.

        Args:
            x: Tokens [B, L, D], or [N, D] if groups say how long the sequences are.
            kept: The tokens whose outcome is returned.
        """
        qkv = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        if groups is None:
            mixed = self._mix(qkv, causal)
        else:
            runs = torch.split(qkv, [num * length for num, length in groups])
            grouped = [run.view(*shape, -1) for run, shape in zip(runs, groups, strict=True)]
            mixed = torch.cat([self._mix(group, causal).flatten(0, 1) for group in grouped])
        return self.out_proj(mixed[kept])

    def _mix(self, qkv: Tensor, causal: bool) -> Tensor:
        B, L, width = qkv.shape
        parts = qkv.view(B, L, 3, self.heads, width // 3 // self.heads).unbind(2)
        query, key, value = (part.transpose(1, 2) for part in parts)
        return attend(query, key, value, causal=causal).transpose(1, 2).reshape(B, L, width // 3)


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

    def forward(self, x: Tensor, *, causal: bool, groups: Groups | None = None, kept: Kept = ...) -> Tensor:
        """Refine the tokens [B, L, D], or [N, D] in groups; return those that are kept."""
        x = x[kept] + self.attn(self.ln_1(x), causal=causal, groups=groups, kept=kept)
        return x + self.mlp(self.ln_2(x))


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

    def forward(self, x: Tensor, *, groups: Groups | None = None, kept: Kept = ...) -> Tensor:
        """Refine tokens block by block.

        Args:
            x: Tokens [B, L, D], or sequences of several lengths, one behind the other: [N, D].
            groups: For [N, D]: how many sequences of which length, in order.
            kept: Indexes the tokens whose states are wanted; the last block computes no others.
        """
        *lower, last = self.blocks()
        for block in lower:
            x = block(x, causal=self.causal, groups=groups)
        return last(x, causal=self.causal, groups=groups, kept=kept)
