"""Split a dataset into train, validation and test subsets that share no image."""

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from zebra.data.bad_samples import NoUsableSamples, describe_bad_samples
from zebra.data.sources import Source
from zebra.errors import BadSample, DataError
from zebra.images.formats import image_digest
from zebra.values import Record

MIN_DISTINCT_IMAGES = 10
"""The smallest dataset that can be split."""
MAX_HELD_OUT_IMAGES = 1000
"""Maximum size of the validation and of the test subset. Each validation reads all of its images."""


class Subset:
    """Some samples of a source, selected by index, as torch.utils.data.Subset."""

    def __init__(self, source: Source, indices: Sequence[int], split: str) -> None:
        self.source, self.indices = source, list(indices)
        self.name = f"{source.name} ({split})"
        self.ignored = source.ignored
        identity = f"{source.digest} {self.indices}"
        self.digest = hashlib.sha256(identity.encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.indices)

    def sample_id(self, index: int) -> str:
        """Return the ID of a sample without reading it."""
        return self.source.sample_id(self.indices[index])

    def read(self, index: int) -> Record:
        """Read one sample; raise BadSample if it cannot be used."""
        return self.source.read(self.indices[index])


@dataclass(frozen=True, slots=True)
class DatasetSplits:
    """Three disjoint subsets of a source."""

    train: Subset
    val: Subset
    test: Subset
    """For the reported scores; scores on `val`, which selects the checkpoint, would be too high."""


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
        Subset(source, train_indices, "train"),
        Subset(source, [index for index, digest in digests.items() if digest in val_images], "validation"),
        Subset(source, [index for index, digest in digests.items() if digest in test_images], "test"),
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
            f"{name} has {len(all_captions)} distinct captions for {len(captions_by_index)} pairs{unseen}. Images "
            "with the same caption count as negatives of each other, in training and in evaluation. Write more "
            "specific captions",
            stacklevel=5,
        )
