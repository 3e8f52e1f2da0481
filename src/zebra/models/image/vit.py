"""The Vision Transformer image tower (CLIP §2.4).

Variants: no norm before the blocks and mean pooling (CLIPA, Li et al. 2023, arXiv 2305.07017), and attention pooling
(CoCa, Yu et al. 2022, arXiv 2205.01917).
"""

import torch
from torch import Tensor, nn

from zebra.config.image_towers import VisionTransformerConfig
from zebra.models.transformer import OutputIndex, Transformer

POOLED_TOKENS: dict[str, OutputIndex] = {
    "class": (slice(None), 0),
    "mean": (slice(None), slice(1, None)),
    "attention": ...,
}
"""The tokens that each kind of pooling needs from the last block."""


class AttentionPooler(nn.Module):
    """CoCa's pooling: cross-attention of a learned query to the normalized tokens.

    Differs: CoCa also has queries for its decoder. Each query attends on its own, so the contrastive one suffices.
    """

    def __init__(self, config: VisionTransformerConfig, embed_dim: int) -> None:
        super().__init__()
        width = config.width
        self.query = nn.Parameter(torch.empty(1, embed_dim).normal_())
        self.attn = nn.MultiheadAttention(embed_dim, config.pooling_heads, kdim=width, vdim=width, batch_first=True)
        self.ln_q = nn.LayerNorm(embed_dim, eps=config.norm_eps)
        self.ln_k = nn.LayerNorm(width, eps=config.norm_eps)

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Return one vector [B, E] per image."""
        tokens_BLD = self.ln_k(x_BLD)
        query_B1E = self.ln_q(self.query).expand(x_BLD.shape[0], 1, -1)
        pooled_B1E: Tensor = self.attn(query_B1E, tokens_BLD, tokens_BLD, need_weights=False)[0]
        return pooled_B1E.squeeze(1)


class VisionTransformer(nn.Module):
    """A ViT with a class token; by default with a norm before the blocks, and pooled at the class token."""

    def __init__(self, config: VisionTransformerConfig, image_size: int, embed_dim: int) -> None:
        super().__init__()
        width, patch = config.width, config.patch_size
        num_patches = (image_size // patch) ** 2
        scale = width**-0.5
        self.pooling = config.pooling
        self.conv1 = nn.Conv2d(3, width, kernel_size=patch, stride=patch, bias=config.patch_bias)
        self.class_embedding = nn.Parameter(torch.empty(width).normal_(std=scale))
        self.positional_embedding = nn.Parameter(torch.empty(num_patches + 1, width).normal_(std=scale))
        self.ln_pre = nn.LayerNorm(width, eps=config.norm_eps) if config.pre_norm else nn.Identity()
        self.transformer = Transformer(config)
        self.attn_pool = AttentionPooler(config, embed_dim) if config.pooling == "attention" else None
        pooled_width = width if self.attn_pool is None else embed_dim
        self.ln_post = nn.LayerNorm(pooled_width, eps=config.norm_eps)
        self.proj = nn.Parameter(torch.empty(pooled_width, embed_dim).normal_(std=scale))
        self.proj_bias = nn.Parameter(torch.zeros(embed_dim)) if config.projection_bias else None

    def features(self, images_B3HW: Tensor, ids_keep_BK: Tensor | None = None) -> Tensor:
        """Return the pooled and normalized vector [B, D], the paper's probe features; see `forward`."""
        patches_BPD = self.conv1(images_B3HW).flatten(2).transpose(1, 2)
        class_B1D = self.class_embedding.to(patches_BPD.dtype).expand(patches_BPD.shape[0], 1, -1)
        x_BLD = torch.cat([class_B1D, patches_BPD], dim=1) + self.positional_embedding
        if ids_keep_BK is not None:
            x_BLD = torch.cat([x_BLD[:, :1], x_BLD[:, 1:].take_along_dim(ids_keep_BK[..., None], 1)], dim=1)
        x = self.transformer(self.ln_pre(x_BLD), output_index=POOLED_TOKENS[self.pooling])
        if self.attn_pool is not None:
            x = self.attn_pool(x)
        elif self.pooling == "mean":
            x = x.mean(dim=1)
        return self.ln_post(x)

    def forward(self, images_B3HW: Tensor, ids_keep_BK: Tensor | None = None) -> Tensor:
        """Return embeddings [B, E], not yet of unit length.

        Args:
            images_B3HW: Normalized pixels.
            ids_keep_BK: Patches to keep, int64, in row-major order; None keeps all (FLIP, arXiv 2212.00794).
        """
        return self.project(self.features(images_B3HW, ids_keep_BK))

    def project(self, feature_BD: Tensor) -> Tensor:
        """Return the embeddings [B, E] of features."""
        embedding_BE = feature_BD @ self.proj
        return embedding_BE if self.proj_bias is None else embedding_BE + self.proj_bias
