"""The CLIP model: an image tower and a text tower (CLIP §2.3, Fig. 3)."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zebra.config.model import ModelConfig
from zebra.models.towers import build_image_tower, build_text_tower
from zebra.values import PatchBatch

INITIAL_TEMPERATURE = 0.07
INITIAL_SCALE_AND_BIAS = (10.0, -10.0)
"""Initial logit scale and bias of a model with a bias (SigLIP §3.2)."""
MAX_LOGIT_SCALE = 100.0


class CLIP(nn.Module):
    """An image tower, a text tower and a learned temperature.

    Differs: the text tower is a separate module; `zebra.pretrained.weights` drops its prefix on disk, so that files
    have the published names (`token_embedding.weight`, `visual.proj`, …).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.visual = build_image_tower(config)
        self.text = build_text_tower(config)
        scale, bias = INITIAL_SCALE_AND_BIAS if config.logit_bias else (1 / INITIAL_TEMPERATURE, 0.0)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(scale)))
        """Logarithm of the multiplier of the cosine similarities."""
        self.logit_bias = nn.Parameter(torch.tensor(bias)) if config.logit_bias else None
        """Added to the scaled similarities before the sigmoid."""

    def encode_images(self, images: Tensor | PatchBatch, ids_keep_BK: Tensor | None = None) -> Tensor:
        """Embed images as unit vectors [B, E].

        Args:
            images: Normalized pixels, float [B, 3, H, W]; for a NaFlex tower, normalized patches.
            ids_keep_BK: Patches that a Vision Transformer keeps, int64; None keeps all.
        """
        args = () if ids_keep_BK is None else (ids_keep_BK,)
        return _l2_normalize(self.visual(images, *args))

    def image_features(self, images: Tensor | PatchBatch) -> Tensor:
        """Return the features before the projection [B, D], not normalized; images as in `encode_images`."""
        features: Callable[[Any], Tensor] = self.visual.features
        return features(images)

    def project_image_features(self, feature_BD: Tensor) -> Tensor:
        """Return the unit vectors [B, E] of `image_features`, as `encode_images` does."""
        return _l2_normalize(self.visual.project(feature_BD))

    def encode_texts(self, tokens_BL: Tensor) -> Tensor:
        """Embed token ids, int64 [B, L], as unit vectors [B, E]."""
        return _l2_normalize(self.text(tokens_BL))

    def forward(
        self, images: Tensor | PatchBatch, tokens_BL: Tensor, ids_keep_BK: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return image vectors [B, E], text vectors [B, E] and the logit scale."""
        images_BE = self.encode_images(images, ids_keep_BK)
        return images_BE, self.encode_texts(tokens_BL), self.logit_scale.exp()

    @torch.no_grad()
    def clamp_logit_scale(self) -> None:
        """Clamp the logit scale to [1, 100]; call this after every optimizer step (CLIP §2.5)."""
        self.logit_scale.clamp_(0.0, math.log(MAX_LOGIT_SCALE))


def truncate_vectors(vectors_BE: Tensor, size: int) -> Tensor:
    """Return the first components of vectors at unit length, [B, size] (Matryoshka, arXiv 2205.13147)."""
    return _l2_normalize(vectors_BE[:, :size])


def _l2_normalize(x_BE: Tensor) -> Tensor:
    """Normalize rows, in fp32 or better."""
    return F.normalize(x_BE.to(torch.promote_types(x_BE.dtype, torch.float32)), dim=-1)
