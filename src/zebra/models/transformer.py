"""Pre-LN transformer blocks shared by the image and the text tower (CLIP §2.4): tokens [B, L, D] in and out.

Texts pass as one flat run of tokens [N, D] (`packing`): only attention needs to know which of them see each other.
Parameter names are those of the published checkpoints, so that weights move between libraries untouched.
"""

from collections.abc import Callable, Iterator
from types import EllipsisType
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn import functional as F

from zebra.config.model import Activation, TransformerConfig
from zebra.models.packing import PackedTexts

AttentionMask = PackedTexts | Tensor | None
"""Which tokens see which: those of a run [N, D] as it says; those of sequences [B, L, D] by a mask [L, L], or all."""
OutputIndex = Tensor | tuple[slice, int] | EllipsisType
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


ACTIVATION_FUNCTIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "quick_gelu": quick_gelu,
    "gelu": F.gelu,
    "gelu_tanh": gelu_tanh,
}


def dot_product_attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None
) -> Tensor:
    """Mix values [B, heads, K, d] by how well their keys answer each query [B, heads, Q, d].

    Args:
        attn_mask: Which keys count for which query, bool, broadcast to [B, heads, Q, K]; None: all.
    """
    if query.dtype is torch.bfloat16 and query.device.type == "cpu":
        # The bf16 kernel of torch 2.13 takes 3 to 6 times as long backward as its fp32 one.
        with torch.autocast("cpu", enabled=False):
            return dot_product_attention(query.float(), key.float(), value.float(), attn_mask).to(query.dtype)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=attn_mask)


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

    def project_qkv(self, x: Tensor) -> Tensor:
        """Return queries, keys and values [..., 3·D] of tokens [..., D]."""
        return F.linear(x, self.in_proj_weight, self.in_proj_bias)

    def forward(
        self, x: Tensor, *, attn_mask: AttentionMask = None, output_index: OutputIndex = ...
    ) -> Tensor:
        """Let every token look at those it sees; return the outcome of the tokens that are kept."""
        qkv = self.project_qkv(x)
        width = x.shape[-1]
        shape = (self.heads, width // self.heads)
        seen: Tensor | None
        if isinstance(attn_mask, PackedTexts):
            own = qkv.view(len(attn_mask.ancestor_SA), -1, 3 * width)
            query = own[..., :width].view(*own.shape[:2], *shape)
            pairs = torch.cat([F.embedding(attn_mask.ancestor_SA, qkv), own], dim=1)[..., width:]
            key, value = pairs.view(*pairs.shape[:2], 2, *shape).unbind(-3)
            seen = attn_mask.mask_SQK[:, None]
        else:
            query, key, value = qkv.view(*x.shape[:-1], 3, *shape).unbind(-3)
            seen = attn_mask
        mixed = dot_product_attention(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), seen)
        return self.out_proj(mixed.transpose(1, 2).reshape(x.shape)[output_index])


class MLP(nn.Module):
    """Two linear layers with an activation between them."""

    def __init__(self, width: int, hidden: int, activation: Activation) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, hidden)
        self.c_proj = nn.Linear(hidden, width)
        self.activation = ACTIVATION_FUNCTIONS[activation]

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

    def forward(
        self, x: Tensor, *, attn_mask: AttentionMask = None, output_index: OutputIndex = ...
    ) -> Tensor:
        """Refine tokens; return those that are kept."""
        x = x[output_index] + self.attn(self.ln_1(x), attn_mask=attn_mask, output_index=output_index)
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    """A stack of residual blocks."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(ResidualBlock(config) for _ in range(config.layers))

    def blocks(self) -> Iterator[ResidualBlock]:
        """Yield the blocks from input to output."""
        for block in self.resblocks:
            assert isinstance(block, ResidualBlock)
            yield block

    def forward(
        self, x: Tensor, *, attn_mask: AttentionMask = None, output_index: OutputIndex = ...
    ) -> Tensor:
        """Refine tokens block by block.

        Args:
            x: Tokens [B, L, D], or [N, D] of a run.
            attn_mask: Which of them see which.
            output_index: Indexes the tokens whose states are wanted; the last block computes no others.
        """
        *lower, last = self.blocks()
        for block in lower:
            x = block(x, attn_mask=attn_mask)
        return last(x, attn_mask=attn_mask, output_index=output_index)
