"""Shared value types, such as Record, Batch, Embeddings, Score and Hit.

Shape suffixes in the names of tensors (`image_BE @ text_BE.T`):

    B batch · C class · D tower width · E embedding · H, W pixels · K neighbors or shots
    L text length · N items · P patches · R rows of one rank · T templates · V vocabulary
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Record:
    """One sample as stored on disk: an encoded image with its captions or label."""

    id: str
    """Unique and stable within its source: 'dogs/rex.jpg', 'captions.csv:17', '00000.tar/000000012'."""
    image: bytes
    """The encoded file (JPEG, PNG, …), not yet decoded."""
    captions: tuple[str, ...] = ()
    """All captions of the image; empty for a labeled evaluation image."""
    label: int | None = None
    """Class index, for evaluation datasets."""
    columns: Mapping[str, object] = field(default_factory=dict)
    """Extra columns of a table, if requested."""
    group: str | None = None
    """What the image shows, if the data has a column of it: captions of a group describe each of its images."""
    caption_probabilities: tuple[float, ...] = ()
    """How likely training chooses each caption, in sum 1; empty if all are equally likely."""
    negatives: tuple[str, ...] = ()
    """Wrong captions of the image, if the data has a column of them."""


@dataclass(frozen=True, slots=True)
class Skip:
    """A skipped sample, with the reason."""

    epoch: int
    id: str
    reason: str
    detail: str


class PatchBatch(NamedTuple):
    """Images of various shapes as patches (NaFlex). A named tuple, so that torch treats it like its tensors."""

    patches_BPI: Tensor
    """[B, P, side · side · 3], uint8 or normalized: patches row by row, then zeros up to P; in a patch rows, columns,
    channels."""
    grid_B2: Tensor
    """int64: rows and columns of patches of each image."""
    mask_BP: Tensor | None = None
    """True for patches, False for padding; None if no image has padding."""

    def to(self, device: torch.device) -> PatchBatch:
        """Return the batch on another device."""
        mask_BP = None if self.mask_BP is None else self.mask_BP.to(device)
        return PatchBatch(self.patches_BPI.to(device), self.grid_B2.to(device), mask_BP)

    def tensor_split(self, sections: int) -> list[PatchBatch]:
        """Split the batch as `Tensor.tensor_split` does."""
        masks = [None] * sections if self.mask_BP is None else self.mask_BP.tensor_split(sections)
        parts = zip(self.patches_BPI.tensor_split(sections), self.grid_B2.tensor_split(sections), masks, strict=True)
        return [PatchBatch(*part) for part in parts]


@dataclass(frozen=True, slots=True)
class Batch:
    """The input of one training step."""

    images: Tensor | PatchBatch
    """uint8 [B, 3, H, W], or patches for NaFlex; normalized in the training process, so that workers send a quarter of
    the bytes."""
    captions: tuple[str, ...]
    """B captions, one drawn per image."""
    ids: tuple[str, ...]
    """B sample ids."""
    groups: tuple[str | None, ...]
    """B groups; None for a sample without one."""
    skips: tuple[Skip, ...] = ()
    """Unusable samples of this batch; each was replaced by a substitute."""
    negatives: tuple[str | None, ...] = ()
    """B wrong captions, one drawn per image, None for a sample without one; empty if the data has no such column."""
    rehearsal: Batch | None = None
    """Pairs of earlier data that the step trains on besides these."""


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Unit vectors with their ids, the input of evaluation and search."""

    vectors: NDArray[np.float32]
    """float32 [N, E], unit length."""
    ids: tuple[str, ...]
    labels: NDArray[np.int64] | None = None
    """int64 [N], class indices."""
    fingerprint: str = ""
    """Fingerprint of the model that computed the vectors."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """A label with its score in [0, 1]."""

    label: str
    score: float


@dataclass(frozen=True, slots=True)
class Classification:
    """The answer of a classifier for an image."""

    label: str | None
    """The best label; None: none of the classes."""
    cosine: float
    """Cosine of the image with its nearest class, which decides whether it shows one of the classes."""
    predictions: tuple[Prediction, ...]
    """Labels with their probabilities, best first."""


@dataclass(frozen=True, slots=True)
class Score:
    """A metric with its 95 % interval over n samples."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True)
class Hit:
    """An image in a store that matches a query."""

    id: str
    score: float
    """Cosine similarity to the query, in [-1, 1]."""
    row: Mapping[str, object]
    """Columns of the store, without vector and thumbnail."""
    duplicates: tuple[str, ...] = ()
    """Ids of near duplicates with a lower score, best first."""
