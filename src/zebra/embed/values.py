"""Data that passes through the stages of embedding."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zebra.data.locations import Location
from zebra.values import Record


@dataclass(frozen=True, slots=True)
class PreprocessedImage:
    """A decoded image at the size of the model's input."""

    pixels_3HW: NDArray[np.uint8]
    width: int
    """Size of the original, in pixels."""
    height: int
    thumbnail: bytes | None
    """JPEG."""


@dataclass(frozen=True, slots=True)
class ImageFeatures:
    """Everything that the image bytes determine: images with equal bytes have equal features."""

    width: int
    height: int
    thumbnail: bytes | None
    vector_E: NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class StoreRow:
    """A row ready to be written."""

    location: Location
    record: Record
    """Captions, label and extra columns; the image bytes are dropped."""
    digest: str
    """SHA-256 of the image bytes, in hex."""
    features: ImageFeatures
