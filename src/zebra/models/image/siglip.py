"""SigLIP's image tower (Zhai et al. 2023, arXiv 2303.15343).

Differs from CLIP's Vision Transformer: no class token, no norm before the blocks, and attention pooling (a MAP head).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zebra.config.image_towers import NaflexVisionConfig, SiglipVisionConfig
from zebra.models.transformer import MLP, Attention, Transformer, dot_product_attention


class MAPHead(nn.Module):
    """Attention pooling with one learned query, then a residual MLP."""

    def __init__(self, config: SiglipVisionConfig | NaflexVisionConfig) -> None:
        super().__init__()
        self.probe = nn.Parameter(torch.empty(config.width).normal_(std=config.width**-0.5))
        self.attn = Attention(config.width, config.heads)
        self.ln = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.mlp = MLP(config.width, config.hidden, config.activation)

    def forward(self, x_BLD: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        """Return one vector [B, D] per image.

        Args:
            attn_mask: True where a token counts, bool [B, 1, 1, L]; None counts all.
        """
        pooled_BD = self._pool(x_BLD, attn_mask)
        return pooled_BD + self.mlp(self.ln(pooled_BD))

    def _pool(self, x_BLD: Tensor, attn_mask: Tensor | None) -> Tensor:
        B, L, D = x_BLD.shape
        heads = self.attn.heads
        query_weight, pair_weight = torch.split(self.attn.in_proj_weight, [D, 2 * D])
        query_bias, pair_bias = torch.split(self.attn.in_proj_bias, [D, 2 * D])
        query = F.linear(self.probe.to(x_BLD.dtype), query_weight, query_bias).view(1, heads, 1, D // heads)
        key, value = F.linear(x_BLD, pair_weight, pair_bias).view(B, L, 2, heads, D // heads).permute(2, 0, 3, 1, 4)
        pooled = dot_product_attention(query.expand(B, -1, -1, -1), key, value, attn_mask)
        return self.attn.out_proj(pooled.reshape(B, D))


class SiglipVision(nn.Module):
    """A Vision Transformer with attention pooling; the pooled vector is the embedding."""

    def __init__(self, config: SiglipVisionConfig, image_size: int) -> None:
        super().__init__()
        width, patch = config.width, config.patch_size
        self.conv1 = nn.Conv2d(3, width, kernel_size=patch, stride=patch)
        self.positional_embedding = nn.Parameter(
            torch.empty((image_size // patch) ** 2, width).normal_(std=width**-0.5)
        )
        self.transformer = Transformer(config)
        self.ln_post = nn.LayerNorm(width, eps=config.norm_eps)
        self.pool = MAPHead(config)

    def features(self, images_B3HW: Tensor, ids_keep_BK: Tensor | None = None) -> Tensor:
        """Return the pooled vector [B, D]; see `forward`."""
        x_BPD = self.conv1(images_B3HW).flatten(2).transpose(1, 2) + self.positional_embedding
        if ids_keep_BK is not None:
            x_BPD = x_BPD.take_along_dim(ids_keep_BK[..., None], 1)
        return self.pool(self.ln_post(self.transformer(x_BPD)))

    def forward(self, images_B3HW: Tensor, ids_keep_BK: Tensor | None = None) -> Tensor:
        """Return embeddings [B, E], not yet of unit length.

        Args:
            images_B3HW: Normalized pixels.
            ids_keep_BK: Patches to keep, int64, in row-major order; None keeps all (FLIP, arXiv 2212.00794).
        """
        return self.features(images_B3HW, ids_keep_BK)

    def project(self, feature_BD: Tensor) -> Tensor:
        """Return the features [B, D], which are the embeddings."""
        return feature_BD
