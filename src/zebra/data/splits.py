"""Split a dataset into train, validation and test subsets that share no image."""

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zebra.data.bad_samples import NoUsableSamples, describe_bad_samples
from zebra.data.sources import BatchedSource, Source, read_many
from zebra.errors import BadSample, DataError
from zebra.images.formats import image_digest
from zebra.values import Record

MIN_DISTINCT_IMAGES = 10
"""The smallest dataset that can be split."""
MAX_HELD_OUT_IMAGES = 1000
"""Maximum size of the validation and of the test subset. Each validation reads all of its images."""
MIN_HELD_OUT_IMAGES = 10
"""Fewer held-out images would say nothing, so none are held out."""
MAX_REPEATED_ROWS = 20
"""Rows of one image that `hold_out` looks for before and after a held-out row."""


class Subset:
    """Some samples of a source, selected by index, as torch.utils.data.Subset."""

    def __init__(self, source: Source, indices: Sequence[int] | NDArray[np.int64], split: str) -> None:
        self.source, self.indices = source, np.array(indices, dtype=np.int64)
        self.name = f"{source.name} ({split})"
        self.ignored = source.ignored
        self.digest = hashlib.sha256(source.digest.encode() + self.indices.tobytes()).hexdigest()

    def __len__(self) -> int:
        return len(self.indices)

    def sample_id(self, index: int) -> str:
        """Return the ID of a sample without reading it."""
        return self.source.sample_id(int(self.indices[index]))

    def read(self, index: int) -> Record:
        """Read one sample; raise BadSample if it cannot be used."""
        return self.source.read(int(self.indices[index]))


class BatchedSubset(Subset):
    """A subset of a source that reads many samples faster together than one by one."""

    def read_many(self, indices: Sequence[int]) -> list[Record | BadSample]:
        """Read samples in the given order; a sample that cannot be used is returned as BadSample."""
        return read_many(self.source, self.indices[np.array(indices, dtype=np.int64)].tolist())


def make_subset(source: Source, indices: Sequence[int] | NDArray[np.int64], split: str) -> Subset:
    """Return some samples of a source as a source that reads as fast."""
    return (BatchedSubset if isinstance(source, BatchedSource) else Subset)(source, indices, split)


def hold_out(source: Source, val_fraction: float) -> tuple[Source, Subset | None]:
    """Split off a validation subset without reading the whole source.

    Evenly spaced samples are held out. If the samples next to one have the same image, as in a table with a row per
    caption, they are held out with it. An image that is repeated elsewhere is not recognized.

    Args:
        val_fraction: Fraction of the samples; at most MAX_HELD_OUT_IMAGES samples and their neighbors are held out,
            and none if the fraction is less than MIN_HELD_OUT_IMAGES samples.

    Returns:
        The training subset and the validation subset; the source itself and None if none are held out.
    """
    size = min(round(val_fraction * len(source)), MAX_HELD_OUT_IMAGES)
    if size < MIN_HELD_OUT_IMAGES:
        return source, None
    is_held_out = np.zeros(len(source), dtype=np.bool_)
    for part in range(size):
        middle = (2 * part + 1) * len(source) // (2 * size)
        is_held_out[_positions_of_image(source, middle)] = True
    return (
        make_subset(source, np.flatnonzero(~is_held_out), "train"),
        make_subset(source, np.flatnonzero(is_held_out), "validation"),
    )


def _positions_of_image(source: Source, position: int) -> list[int]:
    """Return the position and those of its neighbors in both directions that have the same image."""
    positions = [position]
    digest = _read_image_digest(source, position)
    before = range(position - 1, max(position - MAX_REPEATED_ROWS, 0) - 1, -1)
    after = range(position + 1, min(position + MAX_REPEATED_ROWS, len(source)))
    for neighbors in (before, after):
        for neighbor in neighbors:
            if digest is None or _read_image_digest(source, neighbor) != digest:
                break
            positions.append(neighbor)
    return positions


def _read_image_digest(source: Source, position: int) -> str | None:
    """Return the digest of an image; None for a bad sample."""
    try:
        return image_digest(source.read(position).image)
    except BadSample:
        return None


@dataclass(frozen=True, slots=True)
class DatasetSplits:
    """Three disjoint subsets of a source."""

    train: Subset
    val: Subset
    test: Subset
    """For the reported scores; scores on `val`, which selects the checkpoint, would be too high."""
    image_digests: frozenset[str]
    """Digests of the images of all three."""


def train_val_test_split(source: Source, val_fraction: float) -> DatasetSplits:
    """Split a source by the hash of its images, so that duplicates of an image are in the same subset.

    Every sample is read once. Samples that cannot be read stay in the training subset, where they are counted.

    Args:
        source: Captioned images.
        val_fraction: Fraction of the distinct images for the validation subset, and again for the test subset; each
            gets at least one image and at most MAX_HELD_OUT_IMAGES.

    Raises:
        NoUsableSamples: No sample can be read.
        DataError: There are fewer than MIN_DISTINCT_IMAGES distinct images, or all training captions are equal.
    """
    bad_samples: list[BadSample] = []
    digests: dict[int, str] = {}
    captions: dict[int, tuple[str, ...]] = {}
    for index in range(len(source)):
        try:
            record = source.read(index)
        except BadSample as bad:
            bad_samples.append(bad)
            continue
        if record.captions:
            digests[index] = image_digest(record.image)
            captions[index] = record.captions
    if bad_samples and len(bad_samples) == len(source):
        raise NoUsableSamples(source.name, len(source), bad_samples)
    images = sorted(set(digests.values()))
    if len(images) < MIN_DISTINCT_IMAGES:
        unusable = f"{len(bad_samples)} samples are unusable: {describe_bad_samples(bad_samples)}. Repair them, or add"
        raise DataError(
            f"{source.name} has {len(images)} distinct captioned images, but a train, validation and test split needs "
            f"{MIN_DISTINCT_IMAGES}. {unusable if bad_samples else 'Add'} images"
        )
    size = min(max(1, round(val_fraction * len(images))), MAX_HELD_OUT_IMAGES)
    val_images, test_images = set(images[:size]), set(images[size : 2 * size])
    train_indices = [index for index in range(len(source)) if digests.get(index) not in val_images | test_images]
    _validate_captions(source.name, captions, train_indices)
    return DatasetSplits(
        make_subset(source, train_indices, "train"),
        make_subset(source, [index for index, digest in digests.items() if digest in val_images], "validation"),
        make_subset(source, [index for index, digest in digests.items() if digest in test_images], "test"),
        frozenset(images),
    )


def _validate_captions(
    name: str, captions_by_index: Mapping[int, tuple[str, ...]], train_indices: Sequence[int]
) -> None:
    """Raise DataError if all training captions are equal; warn if many images share a caption, such as a class name."""
    all_captions = {caption for captions in captions_by_index.values() for caption in captions}
    train_captions = {caption for index in train_indices for caption in captions_by_index.get(index, ())}
    if len(train_captions) < 2:
        raise DataError(
            f"{name}: all training images have the caption {min(train_captions, default='')!r}, so contrastive "
            "training cannot distinguish them. Describe what each image shows"
        )
    if 2 * len(all_captions) <= len(captions_by_index):
        num_unseen = len(all_captions - train_captions)
        unseen = f", {num_unseen} of them on held-out images only" if num_unseen else ""
        warnings.warn(
            f"{name} has {len(all_captions)} distinct captions for {len(captions_by_index)} pairs{unseen}. Retrieval "
            "counts an image with the same caption as wrong, so its scores are low. Write more specific captions, or "
            "compare class accuracies (--eval-sets)",
            stacklevel=5,
        )
