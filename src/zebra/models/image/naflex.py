"""The NaFlex image tower of SigLIP 2 (arXiv 2502.14786, §2.4.2).

Differs from SigLIP's tower: the positions of a square grid are resized to the grid of each image, and padding is
excluded from attention and pooling.
"""

import math

import torch
from torch import Tensor, nn

from zebra.config.image_towers import NaflexVisionConfig
from zebra.models.image.siglip import MAPHead
from zebra.models.transformer import Transformer
from zebra.values import PatchBatch


class NaflexVision(nn.Module):
    """A Vision Transformer with attention pooling for images of any aspect ratio."""

    def __init__(self, config: NaflexVisionConfig, image_size: int) -> None:
        super().__init__()
        width, patch = config.width, config.patch_size
        self.patch_embed = nn.Linear(3 * patch * patch, width)
        self.positional_embedding = nn.Parameter(
            torch.empty((image_size // patch) ** 2, width).normal_(std=width**-0.5)
        )
        self.transformer = Transformer(config)
        self.ln_post = nn.LayerNorm(width, eps=config.norm_eps)
        self.pool = MAPHead(config)

    def features(self, images: PatchBatch, ids_keep_BK: Tensor | None = None) -> Tensor:
        """Return the pooled vector [B, D]; see `forward`."""
        patches_BPI, grid_B2, mask_BP = images
        x_BPD = self.patch_embed(patches_BPI)
        x_BPD = x_BPD + resize_positions(self.positional_embedding, grid_B2, x_BPD.shape[1]).to(x_BPD.dtype)
        if ids_keep_BK is not None:
            x_BPD = x_BPD.take_along_dim(ids_keep_BK[..., None], 1)
            mask_BP = None if mask_BP is None else mask_BP.take_along_dim(ids_keep_BK, 1)
        attn_mask = None if mask_BP is None else mask_BP[:, None, None]
        return self.pool(self.ln_post(self.transformer(x_BPD, attn_mask=attn_mask)), attn_mask)

    def forward(self, images: PatchBatch, ids_keep_BK: Tensor | None = None) -> Tensor:
        """Return embeddings [B, E], not yet of unit length.

        Args:
            images: Normalized patches.
            ids_keep_BK: Patches to keep, int64, at least one of them no padding; None keeps all (FLIP, arXiv
                2212.00794).
        """
        return self.features(images, ids_keep_BK)

    def project(self, feature_BD: Tensor) -> Tensor:
        """Return the features [B, D], which are the embeddings."""
        return feature_BD


def resize_positions(positions_ND: Tensor, grid_B2: Tensor, length: int) -> Tensor:
    """Resize the positions of a square grid to the grid of each image (bilinear, antialiased, corners not aligned).

    It equals `F.interpolate` per image, but all images of a batch take one matrix product, and ONNX can express it.

    Returns:
        [B, length, D] in float32 or better; beyond the patches of an image, its last position repeats.
    """
    side = math.isqrt(len(positions_ND))
    rows_B1, columns_B1 = grid_B2[:, :1], grid_B2[:, 1:]
    index_BP = torch.arange(length, device=grid_B2.device).minimum(rows_B1 * columns_B1 - 1)
    row_BPS = _resize_weights(index_BP // columns_B1, rows_B1, side)
    column_BPS = _resize_weights(index_BP % columns_B1, columns_B1, side)
    weights_BPN = (row_BPS[..., None] * column_BPS[..., None, :]).flatten(2)
    positions_ND = positions_ND.to(torch.promote_types(positions_ND.dtype, torch.float32))
    return weights_BPN.to(positions_ND.dtype) @ positions_ND


def _resize_weights(index_BP: Tensor, size_B1: Tensor, side: int) -> Tensor:
    """Return the weights [B, P, side] of source positions for the positions `index` of `size`, along one axis."""
    scale_B1 = side / size_B1.float()
    center_BP1 = ((index_BP + 0.5) * scale_B1 - 0.5)[..., None]
    distance_BPS = (torch.arange(side, device=index_BP.device) - center_BP1).abs()
    weights_BPS = (1 - distance_BPS / scale_B1.clamp(min=1)[..., None]).clamp(min=0)
    return weights_BPS / weights_BPS.sum(dim=-1, keepdim=True)
