"""Transformer blocks of the image and text towers (CLIP §2.4).

Images are sequences [B, L, D]; texts are one packed sequence [N, D] (`packing`, `length_groups`), which only attention
treats differently. Parameter names are those of the published checkpoints.
"""

from collections.abc import Callable, Iterator
from types import EllipsisType
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn import functional as F

from zebra.config.transformer import Activation, TransformerConfig
from zebra.models.length_groups import TextsByLength
from zebra.models.packing import PackedTexts

AttentionMask = PackedTexts | TextsByLength | Tensor | None
"""Which tokens attend to which. For [N, D]: PackedTexts or TextsByLength. For [B, L, D]: a bool mask that broadcasts to
[B, heads, L, L], or None for all."""
OutputIndex = Tensor | tuple[slice | Tensor, int | slice | Tensor] | EllipsisType
"""Index of the tokens whose outputs are computed."""


class _QuickGELU(torch.autograd.Function):
    """The function x · sigmoid(1.702 x), with a backward pass that stores only x.

    It equals silu(1.702 x) / 1.702, so its derivative is that of silu at 1.702 x. Autograd would also store the
    sigmoid, a fifth of the activations of a block, and round a bf16 gradient five times.
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
    """Return x · sigmoid(1.702 x), the activation of OpenAI's weights."""
    return _QuickGELU.apply(x)  # type: ignore[no-untyped-call]


def gelu_tanh(x: Tensor) -> Tensor:
    """Return the tanh approximation of GELU, the activation of SigLIP's weights."""
    return F.gelu(x, approximate="tanh")


ACTIVATION_FUNCTIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "quick_gelu": quick_gelu,
    "gelu": F.gelu,
    "gelu_tanh": gelu_tanh,
}


def dot_product_attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None) -> Tensor:
    """Return scaled dot-product attention of queries [B, heads, Q, d] to keys and values [B, heads, K, d].

    Args:
        attn_mask: True where a query attends to a key, bool, broadcast to [B, heads, Q, K]; None: everywhere.
    """
    if query.dtype is torch.bfloat16 and query.device.type == "cpu" and not torch.is_inference_mode_enabled():
        # In torch 2.13, the backward pass of the bf16 kernel takes 3 to 6 times as long as in fp32. A forward pass
        # without gradients gives the same numbers as one with them (gradient caching).
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

    def forward(self, x: Tensor, *, attn_mask: AttentionMask = None, output_index: OutputIndex = ...) -> Tensor:
        """Apply attention; return the outputs at `output_index`."""
        qkv = self.project_qkv(x)
        width = x.shape[-1]
        shape = (self.heads, width // self.heads)
        mask: Tensor | None
        if isinstance(attn_mask, TextsByLength):
            return self.out_proj(self.attend_by_length(qkv, attn_mask)[output_index])
        if isinstance(attn_mask, PackedTexts):
            block = qkv.view(len(attn_mask.ancestor_SA), -1, 3 * width)
            query = block[..., :width].view(*block.shape[:2], *shape)
            pairs = torch.cat([F.embedding(attn_mask.ancestor_SA, qkv), block], dim=1)[..., width:]
            key, value = pairs.view(*pairs.shape[:2], 2, *shape).unbind(-3)
            mask = attn_mask.mask_SQK[:, None]
        else:
            query, key, value = qkv.view(*x.shape[:-1], 3, *shape).unbind(-3)
            mask = attn_mask
        mixed = dot_product_attention(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), mask)
        return self.out_proj(mixed.transpose(1, 2).reshape(x.shape)[output_index])

    def attend_by_length(self, qkv_NF: Tensor, texts: TextsByLength) -> Tensor:
        """Return the attention of each text to itself, [N, D], from queries, keys and values [N, 3·D]."""
        mixed = []
        for group in texts.split(qkv_NF):
            query, key, value = group.view(*group.shape[:2], 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            mixed.append(dot_product_attention(query, key, value).transpose(1, 2).flatten(2).flatten(0, 1))
        return torch.cat(mixed)


class MLP(nn.Module):
    """Two linear layers with an activation in between."""

    def __init__(self, width: int, hidden: int, activation: Activation) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, hidden)
        self.c_proj = nn.Linear(hidden, width)
        self.activation = ACTIVATION_FUNCTIONS[activation]

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Transform each token separately."""
        return self.c_proj(self.activation(self.c_fc(x_BLD)))


class TransformerBlock(nn.Module):
    """Base class of the blocks that are checkpointed, sharded and adapted one by one in training."""


class ResidualBlock(TransformerBlock):
    """A pre-norm residual block: attention, then an MLP."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.attn = Attention(config.width, config.heads)
        self.ln_2 = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.mlp = MLP(config.width, config.hidden, config.activation)

    def forward(self, x: Tensor, *, attn_mask: AttentionMask = None, output_index: OutputIndex = ...) -> Tensor:
        """Apply the block; return the outputs at `output_index`."""
        x = x[output_index] + self.attn(self.ln_1(x), attn_mask=attn_mask, output_index=output_index)
        return x + self.mlp(self.ln_2(x))


class PostNormBlock(ResidualBlock):
    """A residual block with the norms after the additions, as in BERT."""

    def forward(self, x: Tensor, *, attn_mask: AttentionMask = None, output_index: OutputIndex = ...) -> Tensor:
        """Apply the block; return the outputs at `output_index`."""
        x = self.ln_1(x[output_index] + self.attn(x, attn_mask=attn_mask, output_index=output_index))
        return self.ln_2(x + self.mlp(x))


class Transformer(nn.Module):
    """A stack of residual blocks."""

    def __init__(self, config: TransformerConfig, block_type: type[ResidualBlock] = ResidualBlock) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(block_type(config) for _ in range(config.layers))

    def blocks(self) -> Iterator[ResidualBlock]:
        """Yield the blocks from input to output."""
        for block in self.resblocks:
            assert isinstance(block, ResidualBlock)
            yield block

    def forward(self, x: Tensor, *, attn_mask: AttentionMask = None, output_index: OutputIndex = ...) -> Tensor:
        """Apply all blocks.

        Args:
            x: Tokens [B, L, D], or packed [N, D].
            attn_mask: Which tokens attend to which.
            output_index: Index of the tokens that the last block computes and returns; all by default.
        """
        *lower, last = self.blocks()
        for block in lower:
            x = block(x, attn_mask=attn_mask)
        return last(x, attn_mask=attn_mask, output_index=output_index)
