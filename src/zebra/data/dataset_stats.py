"""Statistics of a dataset: image sizes, formats, duplicates and bad samples."""

import hashlib
import math
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from zebra.config.cores import usable_cores
from zebra.data.sources import Source, read_many
from zebra.data.workers import BatchIndices, Heartbeat, run_workers
from zebra.errors import BadSample
from zebra.images.decode import read_header, read_pixels
from zebra.images.orientation import read_orientation
from zebra.values import Record

MAX_EXAMPLES_PER_REASON = 3
MAX_CAPTION_SAMPLES = 20_000
"""Maximum number of samples whose captions are returned."""
SAMPLES_PER_TASK = 16
"""Number of samples per worker task."""
PADDING_INDEX = -1
"""Index that pads the last task."""
SAMPLE_TIMEOUT_SECONDS = 120.0
"""Maximum time of a worker for one sample."""

T = TypeVar("T", int, float)


@dataclass(frozen=True, slots=True)
class SkipReason:
    """The number of samples that cannot be used for one reason, with examples."""

    reason: str
    count: int
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ImageSize:
    """The size of an image in pixels after the EXIF rotation, and its sample ID."""

    width: int
    height: int
    id: str


@dataclass(frozen=True, slots=True)
class Percentiles:
    """The 5th, 50th and 95th percentile."""

    p5: float
    p50: float
    p95: float


@dataclass(frozen=True, slots=True)
class ImageStats:
    """Statistics of the images of usable samples."""

    width: Percentiles
    """In pixels."""
    height: Percentiles
    aspect: Percentiles
    """Width over height."""
    smallest: ImageSize
    largest: ImageSize
    num_small: int
    """Number of images with a side shorter than the training size."""
    formats: dict[str, int]
    conversions: dict[str, int]
    """Conversion during decoding ("L to RGB", "rotated by EXIF", …) → number of images."""
    num_duplicate_samples: int
    """Number of samples whose image file is identical to that of another sample."""
    num_duplicated_images: int
    """Number of distinct images among them."""
    num_caption_conflicts: int
    """Number of these images whose samples have different captions."""


@dataclass(frozen=True, slots=True)
class DatasetStats:
    """Statistics of the examined samples."""

    num_examined: int
    num_usable: int
    skipped: tuple[SkipReason, ...]
    """Most frequent first."""
    images: ImageStats | None
    """None without a usable sample."""


@dataclass(frozen=True, slots=True)
class _SampleStats:
    """The measurements of one usable sample."""

    index: int
    size: ImageSize
    format: str
    conversions: tuple[str, ...]
    digest: int
    captions: tuple[str, ...]


def compute_dataset_stats(
    source: Source,
    *,
    image_size: int,
    max_pixels: int,
    num_samples: int,
    max_seconds: float = math.inf,
    callback: Callable[[int, int], None] = lambda _done, _total: None,
) -> tuple[DatasetStats, list[tuple[str, ...]]]:
    """Read and decode evenly spaced samples of a source, on all cores.

    Args:
        source: Captioned images.
        image_size: Side of the training images, in pixels.
        max_pixels: Largest width × height to decode, as in training.
        num_samples: Number of samples to examine.
        max_seconds: Maximum time; fewer samples are examined when it is over.
        callback: Called with the number of examined samples and `num_samples`.

    Returns:
        The statistics, and the captions of up to MAX_CAPTION_SAMPLES usable samples in the order of the source.

    Raises:
        DataError: The data has changed while it was read, or a worker died or is stuck.
    """
    stats = _StatsAccumulator(image_size)
    deadline = time.monotonic() + max_seconds
    for samples in _examine_samples(source, num_samples, max_pixels):
        for sample in samples:
            stats.add(sample)
        callback(stats.num_examined, num_samples)
        if time.monotonic() > deadline:
            break
    return stats.compute(), [captions for _, captions in sorted(stats.captions)]


def evenly_spaced_indices(num_samples: int, count: int) -> Iterator[int]:
    """Yield `count` distinct indices below `num_samples`, by golden-ratio steps.

    The indices are evenly spaced wherever one stops.

    >>> list(evenly_spaced_indices(10, 4))
    [0, 7, 4, 1]
    """
    stride = max(1, round(num_samples * (math.sqrt(5) - 1) / 2))
    while math.gcd(stride, num_samples) > 1:
        stride += 1
    for step in range(count):
        yield step * stride % num_samples


def quantiles(values: Sequence[T], fractions: Sequence[float]) -> tuple[T, ...]:
    """Return, for each fraction, the smallest value that at least this fraction of the values does not exceed.

    >>> quantiles([4, 1, 3, 2], (0.05, 0.5, 1))
    (1, 2, 4)
    """
    ordered = sorted(values)
    return tuple(ordered[max(0, math.ceil(fraction * len(ordered)) - 1)] for fraction in fractions)


def _examine_samples(source: Source, num_samples: int, max_pixels: int) -> Iterator[list[_SampleStats | BadSample]]:
    """Examine samples, SAMPLES_PER_TASK at a time."""
    task, batch_indices = (
        _ExamineSamples(source, max_pixels),
        _batch_indices(evenly_spaced_indices(len(source), num_samples)),
    )
    # Starting a worker takes as long as examining a few hundred small images.
    num_workers = min(usable_cores(), num_samples // 200)
    if not num_workers:
        return (
            task(indices_B2, np.empty(0, np.uint8), lambda _index, _num_samples: None) for indices_B2 in batch_indices
        )
    outputs = run_workers(
        task,
        batch_indices,
        (SAMPLES_PER_TASK,),
        num_workers=num_workers,
        timeout_seconds=SAMPLE_TIMEOUT_SECONDS,
        sample_id=source.sample_id,
    )
    return (samples for _, samples in outputs)


def _batch_indices(positions: Iterator[int]) -> Iterator[BatchIndices]:
    while chunk := list(islice(positions, SAMPLES_PER_TASK)):
        indices_B2 = np.full((SAMPLES_PER_TASK, 2), PADDING_INDEX)
        indices_B2[: len(chunk), 1] = chunk
        yield indices_B2


@dataclass(frozen=True, slots=True)
class _ExamineSamples:
    """The worker task that examines samples."""

    source: Source
    max_pixels: int

    def __call__(
        self, indices_B2: BatchIndices, out: NDArray[np.uint8], heartbeat: Heartbeat
    ) -> list[_SampleStats | BadSample]:
        del out  # the return value is the only output
        samples: list[_SampleStats | BadSample] = []
        indices = indices_B2[indices_B2[:, 1] != PADDING_INDEX, 1].tolist()
        heartbeat(indices[0], len(indices))
        for index, record in zip(indices, read_many(self.source, indices), strict=True):
            heartbeat(index, 1)
            try:
                samples.append(self._examine(index, record))
            except BadSample as bad:
                samples.append(bad)
        return samples

    def _examine(self, index: int, record: Record | BadSample) -> _SampleStats:
        if isinstance(record, BadSample):
            raise record
        header = read_header(record.image, record.id, max_pixels=self.max_pixels)
        conversions = {
            f"{header.mode} to RGB": header.mode != "RGB",
            "rotated by EXIF": read_orientation(header) != 1,
            "first of several frames": getattr(header, "is_animated", False),
        }
        format = header.format or ""
        size = ImageSize(*read_pixels(header, record.id).size, record.id)
        if not record.captions:
            raise BadSample("missing caption", record.id, "it has only a label")
        applied = tuple(name for name, applies in conversions.items() if applies)
        return _SampleStats(index, size, format, applied, _hash64(record.image), record.captions)


class _StatsAccumulator:
    """Accumulator of a few numbers per sample."""

    def __init__(self, image_size: int) -> None:
        self.image_size = image_size
        self.num_examined = 0
        self.skip_counts: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}
        self.formats: Counter[str] = Counter()
        self.conversions: Counter[str] = Counter()
        self.width, self.height = array("Q"), array("Q")
        self.image_digests, self.caption_digests = array("Q"), array("Q")
        self.extremes: tuple[ImageSize, ImageSize] | None = None
        self.captions: list[tuple[int, tuple[str, ...]]] = []

    def add(self, sample: _SampleStats | BadSample) -> None:
        self.num_examined += 1
        if isinstance(sample, BadSample):
            self.skip_counts[sample.reason] += 1
            examples = self.examples.setdefault(sample.reason, [])
            if len(examples) < MAX_EXAMPLES_PER_REASON:
                examples.append(f"{sample.location}{f' ({sample.detail})' if sample.detail else ''}")
            return
        self.formats[sample.format] += 1
        self.conversions.update(sample.conversions)
        self.width.append(sample.size.width)
        self.height.append(sample.size.height)
        self.image_digests.append(sample.digest)
        self.caption_digests.append(_hash64("\0".join(sample.captions).encode()))
        smallest, largest = self.extremes or (sample.size, sample.size)
        self.extremes = min(smallest, sample.size, key=_area), max(largest, sample.size, key=_area)
        if len(self.captions) < MAX_CAPTION_SAMPLES:
            self.captions.append((sample.index, sample.captions))

    def compute(self) -> DatasetStats:
        reasons = [SkipReason(reason, n, tuple(self.examples[reason])) for reason, n in self.skip_counts.most_common()]
        return DatasetStats(self.num_examined, len(self.width), tuple(reasons), self._image_stats())

    def _image_stats(self) -> ImageStats | None:
        if self.extremes is None:
            return None
        sizes = list(zip(self.width, self.height, strict=True))
        _, counts = np.unique(self.image_digests, return_counts=True)
        distinct = np.unique(np.stack([self.image_digests, self.caption_digests]), axis=1)
        _, num_versions = np.unique(distinct[0], return_counts=True)
        return ImageStats(
            width=_percentiles(self.width),
            height=_percentiles(self.height),
            aspect=_percentiles([width / height for width, height in sizes]),
            smallest=self.extremes[0],
            largest=self.extremes[1],
            num_small=sum(min(sides) < self.image_size for sides in sizes),
            formats=dict(self.formats.most_common()),
            conversions=dict(self.conversions.most_common()),
            num_duplicate_samples=int(counts[counts > 1].sum()),
            num_duplicated_images=int((counts > 1).sum()),
            num_caption_conflicts=int((num_versions > 1).sum()),
        )


def _percentiles(values: Sequence[float]) -> Percentiles:
    return Percentiles(*quantiles(values, (0.05, 0.5, 0.95)))


def _area(size: ImageSize) -> int:
    return size.width * size.height


def _hash64(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest())
