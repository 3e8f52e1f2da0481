"""A source in; what its pictures are like, and which samples cannot be used, out: counted, not kept."""

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
from zebra.images.decode import read_header, read_orientation, read_pixels
from zebra.values import Record

MAX_EXAMPLES_PER_REASON = 3
MAX_CAPTION_SAMPLES = 20_000
"""Samples whose captions are kept as text, for what can only be told from words."""
SAMPLES_PER_TASK = 16
"""Samples that a worker looks at before it answers."""
PADDING_INDEX = -1
"""Fills up the last such order."""
SAMPLE_TIMEOUT_SECONDS = 120.0
"""How long a worker may take for one sample."""

T = TypeVar("T", int, float)


@dataclass(frozen=True, slots=True)
class SkipReason:
    """Samples that cannot be used, for one reason."""

    reason: str
    count: int
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ImageSize:
    """A picture's size in pixels, upright, and whose it is."""

    width: int
    height: int
    id: str


@dataclass(frozen=True, slots=True)
class Percentiles:
    """What 5 %, 50 % and 95 % of some values do not exceed."""

    p5: float
    p50: float
    p95: float


@dataclass(frozen=True, slots=True)
class ImageStats:
    """The pictures of usable samples."""

    width: Percentiles
    """In pixels."""
    height: Percentiles
    aspect: Percentiles
    """Width over height."""
    smallest: ImageSize
    largest: ImageSize
    num_small: int
    """Pictures with a side shorter than training's."""
    formats: dict[str, int]
    conversions: dict[str, int]
    """What decoding does beyond reading: "L to RGB", "turned by EXIF", …"""
    num_duplicate_samples: int
    """Samples whose picture, byte for byte, is also another sample's."""
    num_duplicated_images: int
    """Different pictures among these."""
    num_caption_conflicts: int
    """Pictures among these whose samples say different things."""


@dataclass(frozen=True, slots=True)
class DatasetStats:
    """What was found by looking at samples."""

    num_examined: int
    num_usable: int
    skipped: tuple[SkipReason, ...]
    """Most frequent first."""
    images: ImageStats | None
    """None without a usable sample."""


@dataclass(frozen=True, slots=True)
class _SampleStats:
    """One usable sample."""

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
    """Read and decode samples that are spread evenly over the source, on all cores.

    Args:
        image_size: Side of the pictures in training, in pixels.
        max_pixels: Largest width × height decoded, as in training.
        num_samples: How many to look at.
        max_seconds: When to stop looking.
        callback: Called now and then with how many are done, and of how many.

    Returns:
        What was found; and the captions of up to `KEPT` usable samples, in the order of the source.

    Raises:
        DataError: The data changed while it was read, or a process that reads it died or is stuck.
    """
    tally = _StatsAccumulator(image_size)
    end = time.monotonic() + max_seconds
    for looks in _examine_samples(source, num_samples, max_pixels):
        for look in looks:
            tally.add(look)
        callback(tally.num_examined, num_samples)
        if time.monotonic() > end:
            break
    return tally.compute(), [captions for _, captions in sorted(tally.captions)]


def evenly_spaced_indices(num_samples: int, count: int) -> Iterator[int]:
    """Yield `count` positions of `num_samples`, each once; wherever one stops, they are evenly spread (the golden ratio).

    >>> list(evenly_spaced_indices(10, 4))
    [0, 7, 4, 1]
    """
    stride = max(1, round(num_samples * (math.sqrt(5) - 1) / 2))
    while math.gcd(stride, num_samples) > 1:
        stride += 1
    for step in range(count):
        yield step * stride % num_samples


def quantiles(values: Sequence[T], fractions: Sequence[float]) -> tuple[T, ...]:
    """Return, for each share, the smallest value that so many of the values do not exceed.

    >>> quantiles([4, 1, 3, 2], (0.05, 0.5, 1))
    (1, 2, 4)
    """
    ordered = sorted(values)
    return tuple(ordered[max(0, math.ceil(share * len(ordered)) - 1)] for share in fractions)


def _examine_samples(
    source: Source, num_samples: int, max_pixels: int
) -> Iterator[list[_SampleStats | BadSample]]:
    """Look at samples, a few at a time."""
    look, orders = (
        _ExamineSamples(source, max_pixels),
        _batch_indices(evenly_spaced_indices(len(source), num_samples)),
    )
    # Starting a worker takes as long as looking at a few hundred small pictures.
    workers = min(usable_cores(), num_samples // 200)
    if not workers:
        return (look(order, np.empty(0, np.uint8), lambda _index, _together: None) for order in orders)
    done = run_workers(
        look,
        orders,
        (SAMPLES_PER_TASK,),
        num_workers=workers,
        timeout_seconds=SAMPLE_TIMEOUT_SECONDS,
        sample_id=source.sample_id,
    )
    return (looks for _, looks in done)


def _batch_indices(positions: Iterator[int]) -> Iterator[BatchIndices]:
    while chunk := list(islice(positions, SAMPLES_PER_TASK)):
        order = np.full((SAMPLES_PER_TASK, 2), PADDING_INDEX)
        order[: len(chunk), 1] = chunk
        yield order


@dataclass(frozen=True, slots=True)
class _ExamineSamples:
    """Looks at the samples of an order, in a worker."""

    source: Source
    max_pixels: int

    def __call__(
        self, indices_B2: BatchIndices, out: NDArray[np.uint8], heartbeat: Heartbeat
    ) -> list[_SampleStats | BadSample]:
        del out  # the answer is all there is
        looks: list[_SampleStats | BadSample] = []
        indices = indices_B2[indices_B2[:, 1] != PADDING_INDEX, 1].tolist()
        heartbeat(indices[0], len(indices))
        for index, record in zip(indices, read_many(self.source, indices), strict=True):
            heartbeat(index, 1)
            try:
                looks.append(self._examine(index, record))
            except BadSample as bad:
                looks.append(bad)
        return looks

    def _examine(self, index: int, record: Record | BadSample) -> _SampleStats:
        if isinstance(record, BadSample):
            raise record
        header = read_header(record.image, record.id, max_pixels=self.max_pixels)
        changes = {
            f"{header.mode} to RGB": header.mode != "RGB",
            "turned by EXIF": read_orientation(header) != 1,
            "first of several frames": getattr(header, "is_animated", False),
        }
        form = header.format or ""
        size = ImageSize(*read_pixels(header, record.id).size, record.id)
        if not record.captions:
            raise BadSample("missing caption", record.id, "it has a label, but training needs words")
        made = tuple(change for change, done in changes.items() if done)
        return _SampleStats(index, size, form, made, _hash64(record.image), record.captions)


class _StatsAccumulator:
    """Counts samples; a few numbers of each are kept."""

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
        reasons = [
            SkipReason(reason, n, tuple(self.examples[reason]))
            for reason, n in self.skip_counts.most_common()
        ]
        return DatasetStats(self.num_examined, len(self.width), tuple(reasons), self._image_stats())

    def _image_stats(self) -> ImageStats | None:
        if self.extremes is None:
            return None
        sizes = list(zip(self.width, self.height, strict=True))
        _, counts = np.unique(self.image_digests, return_counts=True)
        different = np.unique(np.stack([self.image_digests, self.caption_digests]), axis=1)
        _, versions = np.unique(different[0], return_counts=True)
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
            num_caption_conflicts=int((versions > 1).sum()),
        )


def _percentiles(values: Sequence[float]) -> Percentiles:
    return Percentiles(*quantiles(values, (0.05, 0.5, 0.95)))


def _area(size: ImageSize) -> int:
    return size.width * size.height


def _hash64(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest())
