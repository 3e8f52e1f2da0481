"""Backends that run image towers: the protocol and torch."""

from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import torch
from torch import Tensor

from zebra.images.preprocess import Preprocess
from zebra.models import CLIP

Backend = Literal["torch", "onnxruntime"]


class ImageEncoder(Protocol):
    """An image tower that includes the normalization of pixels."""

    @property
    def backend(self) -> Backend:
        """The library that runs the tower."""

    def __call__(self, pixels_B3HW: Tensor) -> Tensor:
        """Encode uint8 pixels on the CPU as unit vectors [B, E], float32 on the CPU."""


@dataclass(frozen=True, slots=True)
class TorchImageEncoder:
    """An image tower in torch, in the precision and on the device of its weights."""

    backend: ClassVar[Backend] = "torch"
    model: CLIP
    preprocess: Preprocess
    micro_batch_size: int | None = None
    """Images per forward pass; None: the whole batch."""

    def __call__(self, pixels_B3HW: Tensor) -> Tensor:
        """Return unit vectors [B, E], float32 on the CPU."""
        return torch.cat([self.model.encode_images(part) for part in self._micro_batches(pixels_B3HW)]).cpu()

    def features(self, pixels_B3HW: Tensor) -> Tensor:
        """Return the features before the projection [B, D], float32 on the CPU, not normalized."""
        return torch.cat([self.model.visual.features(part) for part in self._micro_batches(pixels_B3HW)]).float().cpu()

    def features_and_vectors(self, pixels_B3HW: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features before the projection and the unit vectors, from one pass of the tower."""
        features = [self.model.visual.features(part) for part in self._micro_batches(pixels_B3HW)]
        vectors = [self.model.project_image_features(part) for part in features]
        return torch.cat(features).float().cpu(), torch.cat(vectors).cpu()

    def _micro_batches(self, pixels_B3HW: Tensor) -> tuple[Tensor, ...]:
        return torch.split(self._normalize(pixels_B3HW), self.micro_batch_size or len(pixels_B3HW))

    def _normalize(self, pixels_B3HW: Tensor) -> Tensor:
        weight = next(self.model.visual.parameters())
        return self.preprocess.normalize(pixels_B3HW.to(weight.device)).to(weight.dtype)
