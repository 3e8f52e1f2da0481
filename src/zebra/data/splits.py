"""A source in, three parts of it out that share no picture: to learn from, to choose by, to measure on."""

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from zebra.data.sources import Source
from zebra.errors import BadSample, DataError
from zebra.values import Record

MIN_DISTINCT_IMAGES = 10
"""Pictures: fewer can neither teach nor judge."""
MAX_HELD_OUT_IMAGES = 1000
"""Pictures to choose by: more say little more, and every check looks at all of them. As many to measure on."""


class Subset:
    """Some samples of a source, at positions of their own."""

    def __init__(self, source: Source, indices: Sequence[int], split: str) -> None:
        self.source, self.indices = source, list(indices)
        self.name = f"{source.name} ({split})"
        said = f"{source.digest} {self.indices}"
        self.digest = hashlib.sha256(said.encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.indices)

    def sample_id(self, index: int) -> str:
        """Return the id of a sample without reading it."""
        return self.source.sample_id(self.indices[index])

    def read(self, index: int) -> Record:
        """Read one sample; BadSample if it cannot be used."""
        return self.source.read(self.indices[index])


@dataclass(frozen=True, slots=True)
class DatasetSplits:
    """A source in three parts."""

    train: Subset
    val: Subset
    test: Subset
    """What has chosen weights flatters them, so they are measured on pictures that nothing depends on."""


def train_val_test_split(source: Source, val_fraction: float) -> DatasetSplits:
    """Divide a source by the bytes of its pictures, so that a picture with several rows is in one part.

    Every sample is read once. Those that cannot be read stay in the training part, where they are counted.

    Args:
        val_fraction: Of the distinct pictures that each of the two held-out parts gets: at least one, at most 1,000.

    Raises:
        DataError: Fewer than ten distinct pictures, or one caption for all that would be learned from.
    """
    seen: dict[int, bytes] = {}
    said: dict[int, tuple[str, ...]] = {}
    for index in range(len(source)):
        try:
            record = source.read(index)
        except BadSample:
            continue
        if record.captions:
            seen[index] = hashlib.sha256(record.image).digest()
            said[index] = record.captions
    pictures = sorted(set(seen.values()))
    if len(pictures) < MIN_DISTINCT_IMAGES:
        raise DataError(
            f"{source.name} has {len(pictures)} different captioned pictures; to learn from some and judge by others "
            f"takes at least {MIN_DISTINCT_IMAGES}"
        )
    each = min(max(1, round(val_fraction * len(pictures))), MAX_HELD_OUT_IMAGES)
    choosing, measuring = set(pictures[:each]), set(pictures[each : 2 * each])
    rest = [index for index in range(len(source)) if seen.get(index) not in choosing | measuring]
    _validate_captions(source.name, said, rest)
    return DatasetSplits(
        Subset(source, rest, "train"),
        Subset(source, [index for index, digest in seen.items() if digest in choosing], "validation"),
        Subset(source, [index for index, digest in seen.items() if digest in measuring], "test"),
    )


def _validate_captions(
    name: str, captions_by_index: Mapping[int, tuple[str, ...]], train_indices: Sequence[int]
) -> None:
    """Refuse captions that tell no picture from another; warn of those that tell few apart, as names of classes do."""
    every = {caption for captions in captions_by_index.values() for caption in captions}
    taught = {caption for index in train_indices for caption in captions_by_index.get(index, ())}
    if len(taught) < 2:
        raise DataError(
            f"{name}: all pictures to learn from have the caption {min(taught, default='')!r}, so nothing tells them "
            "apart; describe what each of them shows"
        )
    if 2 * len(every) <= len(captions_by_index):
        missed = len(every - taught)
        lost = f"; {missed} of them belong to held-out pictures alone, and are not learned" if missed else ""
        warnings.warn(
            f"{name} has {len(every)} different captions for {len(captions_by_index)} pairs{lost}. Pictures of one caption count as "
            "each other's mistakes, in training and in the measures: captions that say more teach more",
            stacklevel=5,
        )
