"""The Vision Transformer image tower (CLIP §2.4)."""

import torch
from torch import Tensor, nn

from zebra.config.image_towers import VisionTransformerConfig
from zebra.models.transformer import Transformer


class VisionTransformer(nn.Module):
    """A ViT with an extra layer norm before the blocks, pooled at the class token."""

    def __init__(self, config: VisionTransformerConfig, image_size: int, embed_dim: int) -> None:
        super().__init__()
        width, patch = config.width, config.patch_size
        num_patches = (image_size // patch) ** 2
        scale = width**-0.5
        self.conv1 = nn.Conv2d(3, width, kernel_size=patch, stride=patch, bias=False)
        self.class_embedding = nn.Parameter(torch.empty(width).normal_(std=scale))
        self.positional_embedding = nn.Parameter(torch.empty(num_patches + 1, width).normal_(std=scale))
        self.ln_pre = nn.LayerNorm(width, eps=config.norm_eps)
        self.transformer = Transformer(config)
        self.ln_post = nn.LayerNorm(width, eps=config.norm_eps)
        self.proj = nn.Parameter(torch.empty(width, embed_dim).normal_(std=scale))

    def features(self, images_B3HW: Tensor, ids_keep_BK: Tensor | None = None) -> Tensor:
        """Return the normalized class token [B, D], the paper's probe features; see `forward`."""
        patches_BPD = self.conv1(images_B3HW).flatten(2).transpose(1, 2)
        class_B1D = self.class_embedding.to(patches_BPD.dtype).expand(patches_BPD.shape[0], 1, -1)
        x_BLD = torch.cat([class_B1D, patches_BPD], dim=1) + self.positional_embedding
        if ids_keep_BK is not None:
            x_BLD = torch.cat([x_BLD[:, :1], x_BLD[:, 1:].take_along_dim(ids_keep_BK[..., None], 1)], dim=1)
        class_BD = self.transformer(self.ln_pre(x_BLD), output_index=(slice(None), 0))
        return self.ln_post(class_BD)

    def forward(self, images_B3HW: Tensor, ids_keep_BK: Tensor | None = None) -> Tensor:
        """Return embeddings [B, E], not yet of unit length.

        Args:
            images_B3HW: Normalized pixels.
            ids_keep_BK: Patches to keep, int64, in row-major order; None keeps all (FLIP, arXiv 2212.00794).
        """
        return self.project(self.features(images_B3HW, ids_keep_BK))

    def project(self, feature_BD: Tensor) -> Tensor:
        """Return the embeddings [B, E] of features."""
        return feature_BD @ self.proj
