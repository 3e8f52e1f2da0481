"""Interface of the model to the server, and the values that it returns."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]
"""An embedding [E] of unit length."""


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """Properties of a model, named as in `Bundle`."""

    fingerprint: str
    embed_dim: int
    image_size: int
    context_length: int
    precision: str
    logit_scale: float
    logit_bias: float | None
    templates: list[str]
    dimensions: list[int]
    """Smaller sizes of the vectors that the model was trained for."""


@dataclass(frozen=True, slots=True)
class TextEmbedding:
    """The vector of a text, and how much of the text the model read."""

    vector_E: Vector
    num_tokens: int
    """Tokens that were read, including start and end tokens."""
    is_truncated: bool
    """Whether the text was longer than the context."""


@dataclass(frozen=True, slots=True)
class ZeroShotHead:
    """One unit vector per label."""

    vectors_CE: NDArray[np.float32]
    num_truncated: int
    """Number of prompts that were longer than the context."""


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """A preprocessed image."""

    pixels_3HW: NDArray[np.uint8]
    digest: str
    """SHA-256 of the image file."""


@dataclass(frozen=True, slots=True)
class HeatMap:
    """Where an image matches a text."""

    values_HW: NDArray[np.float32]
    """How much each cell raises the cosine of image and text, as `Bundle.heat_map` returns it."""
    box: tuple[float, float, float, float]
    """Left, top, right and bottom of what the model sees of the image, as fractions of its size."""


class ModelClient(Protocol):
    """Async interface of a model, wherever it runs; `ModelRunner` documents the calls."""

    @property
    def metadata(self) -> ModelMetadata:
        """The metadata of the model."""

    @property
    def is_ready(self) -> bool:
        """Whether the model answers calls now."""

    async def decode_image(self, data: bytes, where: str, max_pixels: int) -> DecodedImage | Vector:
        """Decode an image."""

    async def resize_image(self, data: bytes, max_side: int) -> bytes:
        """Make a thumbnail."""

    async def heat_map(self, data: bytes, where: str, max_pixels: int, text: str) -> HeatMap:
        """Map where an image matches a text."""

    async def encode_images(self, images: Sequence[DecodedImage]) -> Sequence[Vector]:
        """Embed images."""

    async def encode_texts(self, texts: Sequence[str]) -> Sequence[TextEmbedding]:
        """Embed texts."""

    async def require_distinct_labels(self, labels: Sequence[str]) -> None:
        """Check that no two labels are one text to the model."""

    async def build_head(self, labels: Sequence[str], templates: Sequence[str]) -> ZeroShotHead:
        """Build a zero-shot head."""
