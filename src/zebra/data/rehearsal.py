"""Rehearsal: pairs of earlier data in each batch, against forgetting."""

import warnings
from collections.abc import Iterator, Set
from dataclasses import dataclass, replace

import numpy as np
import torch

from zebra.config.data import DataConfig
from zebra.data.sources import Source, open_source, read_many
from zebra.data.splits import Subset, make_subset
from zebra.errors import BadSample, DataError
from zebra.images.formats import image_digest
from zebra.values import Batch, PatchBatch

READ_CHUNK_SIZE = 64
"""Samples that are read together to find out which images are excluded."""


@dataclass(frozen=True, slots=True)
class RehearsalData:
    """Earlier data, without the images of the new data."""

    source: Subset
    num_found: int
    """Number of samples of the earlier data."""

    @property
    def num_excluded(self) -> int:
        """Number of samples that were left out because the new data has their image."""
        return self.num_found - len(self.source)


def open_rehearsal(path: str, options: DataConfig) -> Source:
    """Open earlier data with the options of the new data, except for wrong captions, which it has none of."""
    return open_source(path, replace(options, negatives_column=None))


def exclude_images(source: Source, digests: Set[str]) -> RehearsalData:
    """Leave out the samples with one of some images, which would be trained on although they are held out.

    Every sample is read once. Samples that cannot be read stay; they are counted in training.

    Args:
        source: Earlier data.
        digests: Digests of the encoded images to leave out.

    Raises:
        DataError: No sample is left.
    """
    is_kept = np.ones(len(source), dtype=np.bool_)
    for start in range(0, len(source), READ_CHUNK_SIZE):
        indices = range(start, min(start + READ_CHUNK_SIZE, len(source)))
        for index, record in zip(indices, read_many(source, indices), strict=True):
            is_kept[index] = isinstance(record, BadSample) or image_digest(record.image) not in digests
    if not is_kept.any():
        raise DataError(
            f"--rehearse {source.name}: all of its {len(source):,} images are in --data too, so nothing is left to "
            "rehearse. Name the data that the initial model was trained on, or leave --rehearse out"
        )
    if not is_kept.all():
        warnings.warn(
            f"{(~is_kept).sum():,} of the {len(source):,} samples of --rehearse {source.name} are in --data too and "
            "are left out",
            stacklevel=2,
        )
    return RehearsalData(make_subset(source, np.flatnonzero(is_kept), "rehearsal"), len(source))


def add_rehearsal(batches: Iterator[Batch], rehearsal: Iterator[Batch]) -> Iterator[Batch]:
    """Give each batch the batch of earlier pairs of the same step."""
    return (replace(batch, rehearsal=earlier) for batch, earlier in zip(batches, rehearsal, strict=True))


def join_rehearsal(batch: Batch) -> Batch:
    """Return all pairs of a step: those of the batch, then those of its rehearsal."""
    earlier = batch.rehearsal
    if earlier is None:
        return batch
    return Batch(
        _concatenate(batch.images, earlier.images),
        batch.captions + earlier.captions,
        batch.ids + earlier.ids,
        batch.groups + earlier.groups,
        negatives=_join_negatives(batch, earlier),
    )


def _join_negatives(batch: Batch, earlier: Batch) -> tuple[str | None, ...]:
    """Return a place for the hard negative of each pair, if either batch has some."""
    if not batch.negatives and not earlier.negatives:
        return ()
    first, second = (each.negatives or (None,) * len(each.captions) for each in (batch, earlier))
    return first + second


def _concatenate(first: torch.Tensor | PatchBatch, second: torch.Tensor | PatchBatch) -> torch.Tensor | PatchBatch:
    if isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor):
        return torch.cat([first, second])
    assert isinstance(first, PatchBatch) and isinstance(second, PatchBatch)
    assert first.mask_BP is not None and second.mask_BP is not None  # every batch of training has a mask
    return PatchBatch(
        torch.cat([first.patches_BPI, second.patches_BPI]),
        torch.cat([first.grid_B2, second.grid_B2]),
        torch.cat([first.mask_BP, second.mask_BP]),
    )
