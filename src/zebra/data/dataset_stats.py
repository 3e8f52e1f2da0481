"""A source in; what its pictures are like, and which samples cannot be used, out: counted, not kept."""

import hashlib
import math
import os
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from zebra.data.sources import Source, read_many
from zebra.data.workers import Note, Order, filled
from zebra.errors import BadSample
from zebra.images.decode import orientation, read_header, read_pixels
from zebra.values import Record

EXAMPLES = 3
KEPT = 20_000
"""Samples whose captions are kept as text, for what can only be told from words."""
TOGETHER = 16
"""Samples that a worker looks at before it answers."""
NOBODY = -1
"""Fills up the last such order."""
TIMEOUT_SECONDS = 120.0
"""How long a worker may take for one sample."""

T = TypeVar("T", int, float)


@dataclass(frozen=True, slots=True)
class Reason:
    """Samples that cannot be used, for one reason."""

    reason: str
    count: int
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Size:
    """A picture's size in pixels, upright, and whose it is."""

    width: int
    height: int
    id: str


@dataclass(frozen=True, slots=True)
class Spread:
    """What 5 %, 50 % and 95 % of some values do not exceed."""

    p5: float
    p50: float
    p95: float


@dataclass(frozen=True, slots=True)
class Pictures:
    """The pictures of usable samples."""

    width: Spread
    """In pixels."""
    height: Spread
    aspect: Spread
    """Width over height."""
    smallest: Size
    largest: Size
    small: int
    """Pictures with a side shorter than training's."""
    formats: dict[str, int]
    changes: dict[str, int]
    """What decoding does beyond reading: "L to RGB", "turned by EXIF", …"""
    sharing: int
    """Samples whose picture, byte for byte, is also another sample's."""
    shared: int
    """Different pictures among these."""
    disputed: int
    """Pictures among these whose samples say different things."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What was found by looking at samples."""

    looked: int
    usable: int
    skipped: tuple[Reason, ...]
    """Most frequent first."""
    pictures: Pictures | None
    """None without a usable sample."""


@dataclass(frozen=True, slots=True)
class _Look:
    """One usable sample."""

    index: int
    size: Size
    format: str
    changes: tuple[str, ...]
    digest: int
    captions: tuple[str, ...]


def survey(
    source: Source,
    *,
    image_size: int,
    max_pixels: int,
    samples: int,
    seconds: float = math.inf,
    watch: Callable[[int, int], None] = lambda _done, _total: None,
) -> tuple[Survey, list[tuple[str, ...]]]:
    """Read and decode samples that are spread evenly over the source, on all cores.

    Args:
        image_size: Side of the pictures in training, in pixels.
        max_pixels: Largest width × height decoded, as in training.
        samples: How many to look at.
        seconds: When to stop looking.
        watch: Called now and then with how many are done, and of how many.

    Returns:
        What was found; and the captions of up to `KEPT` usable samples, in the order of the source.

    Raises:
        DataError: The data changed while it was read, or a process that reads it died or is stuck.
    """
    tally = _Tally(image_size)
    end = time.monotonic() + seconds
    for looks in _looks(source, samples, max_pixels):
        for look in looks:
            tally.add(look)
        watch(tally.looked, samples)
        if time.monotonic() > end:
            break
    return tally.survey(), [captions for _, captions in sorted(tally.captions)]


def spread(found: int, total: int) -> Iterator[int]:
    """Yield `total` positions of `found`, each once; wherever one stops, they are evenly spread (the golden ratio).

    >>> list(spread(10, 4))
    [0, 7, 4, 1]
    """
    stride = max(1, round(found * (math.sqrt(5) - 1) / 2))
    while math.gcd(stride, found) > 1:
        stride += 1
    for step in range(total):
        yield step * stride % found


def percentiles(values: Sequence[T], shares: Sequence[float]) -> tuple[T, ...]:
    """Return, for each share, the smallest value that so many of the values do not exceed.

    >>> percentiles([4, 1, 3, 2], (0.05, 0.5, 1))
    (1, 2, 4)
    """
    ordered = sorted(values)
    return tuple(ordered[max(0, math.ceil(share * len(ordered)) - 1)] for share in shares)


def usable_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _looks(source: Source, total: int, max_pixels: int) -> Iterator[list[_Look | BadSample]]:
    """Look at samples, a few at a time."""
    look, orders = _Looks(source, max_pixels), _orders(spread(len(source), total))
    # Starting a worker takes as long as looking at a few hundred small pictures.
    workers = min(usable_cores(), total // 200)
    if not workers:
        return (look(order, np.empty(0, np.uint8), lambda _index, _together: None) for order in orders)
    done = filled(look, orders, (TOGETHER,), workers=workers, timeout=TIMEOUT_SECONDS, name=source.locate)
    return (looks for _, looks in done)


def _orders(positions: Iterator[int]) -> Iterator[Order]:
    while chunk := list(islice(positions, TOGETHER)):
        order = np.full((TOGETHER, 2), NOBODY)
        order[: len(chunk), 1] = chunk
        yield order


@dataclass(frozen=True, slots=True)
class _Looks:
    """Looks at the samples of an order, in a worker."""

    source: Source
    max_pixels: int

    def __call__(self, order: Order, into: NDArray[np.uint8], note: Note) -> list[_Look | BadSample]:
        del into  # the answer is all there is
        looks: list[_Look | BadSample] = []
        indices = order[order[:, 1] != NOBODY, 1].tolist()
        note(indices[0], len(indices))
        for index, record in zip(indices, read_many(self.source, indices), strict=True):
            note(index, 1)
            try:
                looks.append(self._look(index, record))
            except BadSample as bad:
                looks.append(bad)
        return looks

    def _look(self, index: int, record: Record | BadSample) -> _Look:
        if isinstance(record, BadSample):
            raise record
        header = read_header(record.image, record.id, max_pixels=self.max_pixels)
        changes = {
            f"{header.mode} to RGB": header.mode != "RGB",
            "turned by EXIF": orientation(header) != 1,
            "first of several frames": getattr(header, "is_animated", False),
        }
        form = header.format or ""
        size = Size(*read_pixels(header, record.id).size, record.id)
        if not record.captions:
            raise BadSample("missing caption", record.id, "it has a label, but training needs words")
        made = tuple(change for change, done in changes.items() if done)
        return _Look(index, size, form, made, _digest(record.image), record.captions)


class _Tally:
    """Counts samples; a few numbers of each are kept."""

    def __init__(self, image_size: int) -> None:
        self.image_size = image_size
        self.looked = 0
        self.reasons: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}
        self.formats: Counter[str] = Counter()
        self.changes: Counter[str] = Counter()
        self.width, self.height = array("Q"), array("Q")
        self.digests, self.told = array("Q"), array("Q")
        self.extremes: tuple[Size, Size] | None = None
        self.captions: list[tuple[int, tuple[str, ...]]] = []

    def add(self, look: _Look | BadSample) -> None:
        self.looked += 1
        if isinstance(look, BadSample):
            self.reasons[look.reason] += 1
            examples = self.examples.setdefault(look.reason, [])
            if len(examples) < EXAMPLES:
                examples.append(f"{look.where}{f' ({look.detail})' if look.detail else ''}")
            return
        self.formats[look.format] += 1
        self.changes.update(look.changes)
        self.width.append(look.size.width)
        self.height.append(look.size.height)
        self.digests.append(look.digest)
        self.told.append(_digest("\0".join(look.captions).encode()))
        smallest, largest = self.extremes or (look.size, look.size)
        self.extremes = min(smallest, look.size, key=_area), max(largest, look.size, key=_area)
        if len(self.captions) < KEPT:
            self.captions.append((look.index, look.captions))

    def survey(self) -> Survey:
        reasons = [
            Reason(reason, n, tuple(self.examples[reason])) for reason, n in self.reasons.most_common()
        ]
        return Survey(self.looked, len(self.width), tuple(reasons), self._pictures())

    def _pictures(self) -> Pictures | None:
        if self.extremes is None:
            return None
        sizes = list(zip(self.width, self.height, strict=True))
        _, counts = np.unique(self.digests, return_counts=True)
        different = np.unique(np.stack([self.digests, self.told]), axis=1)
        _, versions = np.unique(different[0], return_counts=True)
        return Pictures(
            width=_spread(self.width),
            height=_spread(self.height),
            aspect=_spread([width / height for width, height in sizes]),
            smallest=self.extremes[0],
            largest=self.extremes[1],
            small=sum(min(sides) < self.image_size for sides in sizes),
            formats=dict(self.formats.most_common()),
            changes=dict(self.changes.most_common()),
            sharing=int(counts[counts > 1].sum()),
            shared=int((counts > 1).sum()),
            disputed=int((versions > 1).sum()),
        )


def _spread(values: Sequence[float]) -> Spread:
    return Spread(*percentiles(values, (0.05, 0.5, 0.95)))


def _area(size: Size) -> int:
    return size.width * size.height


def _digest(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest())
