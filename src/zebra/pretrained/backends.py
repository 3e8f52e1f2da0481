"""What runs an image tower: uint8 pixels in, unit vectors out; in torch here, in onnxruntime in `graphs.py`."""

from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import torch
from torch import Tensor

from zebra.images.preprocess import Preprocess
from zebra.models import CLIP

Backend = Literal["torch", "onnxruntime"]


class ImageEncoder(Protocol):
    """An image tower with the normalisation of its pixels."""

    @property
    def backend(self) -> Backend:
        """What multiplies."""

    def __call__(self, pixels_B3HW: Tensor) -> Tensor:
        """Turn uint8 pixels on the CPU into unit vectors [B, E], float32 on the CPU."""


@dataclass(frozen=True, slots=True)
class TorchImageEncoder:
    """The tower as torch runs it, in the number format of its weights and on their device."""

    backend: ClassVar[Backend] = "torch"
    model: CLIP
    preprocess: Preprocess
    micro_batch_size: int | None = None
    """Run larger batches in parts of this many pictures."""

    def __call__(self, pixels_B3HW: Tensor) -> Tensor:
        """Return unit vectors [B, E], float32 on the CPU."""
        parts = torch.split(self._normalize(pixels_B3HW), self.micro_batch_size or len(pixels_B3HW))
        return torch.cat([self.model.encode_images(part) for part in parts]).cpu()

    def features(self, pixels_B3HW: Tensor) -> Tensor:
        """Return what lies before the projection, float32 on the CPU, not normalised."""
        features: Tensor = self.model.visual.features(self._normalize(pixels_B3HW))
        return features.float().cpu()

    def _normalize(self, pixels_B3HW: Tensor) -> Tensor:
        weight = next(self.model.visual.parameters())
        return self.preprocess.normalize(pixels_B3HW.to(weight.device)).to(weight.dtype)
