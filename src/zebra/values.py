"""The values that walk through the rooms: Record → Batch → Embeddings → Prediction, Score, Hit.

The shape alphabet, used in names wherever tensors meet (`image_BE @ text_BE.T`):

    B batch · C class · D tower width · E embedding · H, W pixels · K neighbours or shots
    L text length · N items · P patches · R ranks · T templates · V vocabulary
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Record:
    """One sample as it lies on disk: an encoded image with what is said about it."""

    id: str
    """Unique and stable inside its source: 'dogs/rex.jpg', 'captions.csv:17', '00000.tar/000000012'."""
    image: bytes
    """The encoded file (JPEG, PNG, …), not yet decoded."""
    captions: tuple[str, ...] = ()
    """Everything said about the image; empty for a labelled evaluation picture."""
    label: int | None = None
    """Class index, for evaluation sets."""


@dataclass(frozen=True, slots=True)
class Skip:
    """A sample that was left out, and why."""

    epoch: int
    id: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Batch:
    """What one training step consumes."""

    images: Tensor
    """uint8 [B, 3, H, W]; normalised on the training side, so that workers send a quarter of the bytes."""
    captions: tuple[str, ...]
    """B captions, one drawn per image."""
    ids: tuple[str, ...]
    """B sample ids."""
    skips: tuple[Skip, ...] = ()
    """Samples found unusable while this batch was made; each was replaced by a substitute."""


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Unit vectors with their names: all that evaluation and search ever see."""

    vectors: NDArray[np.float32]
    """float32 [N, E], unit length."""
    ids: tuple[str, ...]
    labels: NDArray[np.int64] | None = None
    """int64 [N], class indices."""
    fingerprint: str = ""
    """Of the model that made the vectors."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """A label with its score in [0, 1]."""

    label: str
    score: float


@dataclass(frozen=True, slots=True)
class Score:
    """A metric with its 95 % interval over n samples."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True)
class Hit:
    """A picture of a store that answers a query."""

    id: str
    score: float
    """Cosine of its vector to the query's, in [-1, 1]."""
    row: Mapping[str, object]
    """Columns of the store, without vector and thumbnail."""
    duplicates: tuple[str, ...] = ()
    """Ids of near duplicates that score less and stand behind this one, best first."""
