"""Backends that run image towers: the protocol and torch."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import torch
from torch import Tensor

from zebra.images.naflex import group_by_length
from zebra.images.preprocess import Preprocess
from zebra.images.tensors import Pixels
from zebra.models import CLIP
from zebra.values import PatchBatch

Backend = Literal["torch", "onnxruntime"]


class ImageEncoder(Protocol):
    """An image tower that includes the normalization of pixels."""

    @property
    def backend(self) -> Backend:
        """The library that runs the tower."""

    def __call__(self, pixels: Pixels) -> Tensor:
        """Encode preprocessed images on the CPU as unit vectors [B, E], float32 on the CPU."""


@dataclass(frozen=True, slots=True)
class TorchImageEncoder:
    """An image tower in torch, in the precision and on the device of its weights."""

    backend: ClassVar[Backend] = "torch"
    model: CLIP
    preprocess: Preprocess
    micro_batch_size: int | None = None
    """Images per forward pass; None: the whole batch. For NaFlex, images of `Preprocess.image_size`; more of smaller
    ones."""

    def __call__(self, pixels: Pixels) -> Tensor:
        """Return unit vectors [B, E], float32 on the CPU."""
        order, batches = self._batches(pixels)
        return torch.cat([self.model.encode_images(batch) for batch in batches])[order].cpu()

    def features(self, pixels: Pixels) -> Tensor:
        """Return the features before the projection [B, D], float32 on the CPU, not normalized."""
        order, batches = self._batches(pixels)
        return torch.cat([self.model.image_features(batch) for batch in batches])[order].float().cpu()

    def projections(self, pixels: Pixels) -> Tensor:
        """Return the projected vectors before normalization [B, E], float32 on the CPU."""
        order, batches = self._batches(pixels)
        return torch.cat([self.model.visual(batch) for batch in batches])[order].float().cpu()

    def features_and_vectors(self, pixels: Pixels) -> tuple[Tensor, Tensor]:
        """Return the features before the projection and the unit vectors, from one pass of the tower."""
        order, batches = self._batches(pixels)
        features = [self.model.image_features(batch) for batch in batches]
        vectors = [self.model.project_image_features(part) for part in features]
        return torch.cat(features)[order].float().cpu(), torch.cat(vectors)[order].cpu()

    def _batches(self, pixels: Pixels) -> tuple[Tensor | slice, Iterator[Tensor | PatchBatch]]:
        """Return the inputs of the forward passes, and an index that restores the order of the images."""
        weight = next(self.model.visual.parameters())
        if self.preprocess.patch_size is not None:
            return self._patch_batches(pixels, self.preprocess.patch_size, weight)
        assert isinstance(pixels, Tensor), "images of a fixed size"
        normalized = self.preprocess.normalize(pixels.to(weight.device)).to(weight.dtype)
        return slice(None), iter(torch.split(normalized, self.micro_batch_size or len(pixels)))

    def _patch_batches(
        self, pixels: Pixels, patch_size: int, weight: Tensor
    ) -> tuple[Tensor, Iterator[Tensor | PatchBatch]]:
        num_positions = (self.preprocess.image_size // patch_size) ** 2
        max_tokens = None if self.micro_batch_size is None else self.micro_batch_size * num_positions
        order_N, batches = group_by_length(pixels, patch_size, max_tokens)
        normalize = self.preprocess.normalize_patches
        return order_N, (normalize(batch.to(weight.device), weight.dtype) for batch in batches)
