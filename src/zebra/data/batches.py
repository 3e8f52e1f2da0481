"""A source, a seed and a range of steps in; batches of decoded training samples out, the same for any workers."""

import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from zebra.config.data import DataConfig
from zebra.data.ledger import Ledger
from zebra.data.sampling import augmentation, position_to_sample, substitute
from zebra.data.sources import Source
from zebra.errors import BadSample, ConfigError, DataError
from zebra.images.augment import random_crop
from zebra.images.decode import decode
from zebra.values import Batch, Record, Skip

__all__ = ["Ledger", "batches", "require_batch"]

MAX_ATTEMPTS = 100
"""Unusable samples in a row after which a source is given up."""
PREFETCH = 4
"""Batches that each worker prepares ahead."""
GRACE_SECONDS = 5
"""How long a worker goes on after SIGTERM, so that a step in want of its batch can still be finished."""

Sample: TypeAlias = tuple[NDArray[np.uint8], str, str]
"""Image [3, H, W], caption, id."""


def batches(
    source: Source,
    *,
    image_size: int,
    batch_size: int,
    seed: int,
    steps: range,
    workers: int,
    options: DataConfig,
) -> Iterator[Batch]:
    """Yield the batch of every step.

    A batch is a function of seed and step alone: neither the number of workers nor the step begun with changes it.
    Where a sample cannot be used, another one takes its place and `Batch.skips` says so.

    Args:
        image_size: Side of the square crops, in pixels.
        seed: Decides order, crops and the choice of captions; not negative.
        steps: Counted from 0 at the start of the run; one that resumes begins later.
        workers: Processes that read and decode; 0 does it here.

    Raises:
        DataError: Fewer samples than one batch; while iterating also: no usable sample, or a shard that changed.
    """
    require_batch(source, batch_size)
    if seed < 0:
        raise ConfigError(f"seed is {seed}; it cannot be negative")
    loader = DataLoader(
        _Samples(source, image_size, seed, options),
        batch_sampler=_Steps(len(source), batch_size, seed, steps),
        collate_fn=_first,
        num_workers=workers,
        worker_init_fn=_outlast_signals,
        prefetch_factor=PREFETCH if workers else None,
        generator=torch.Generator(),  # without its own, every start of a loader moves torch's global state
    )
    return _raised(iter(loader))


def require_batch(source: Source, batch_size: int) -> None:
    """Raise DataError if the source holds fewer samples than one batch."""
    if len(source) < batch_size:
        raise DataError(
            f"{source.name} holds {len(source)} samples, fewer than one batch of {batch_size}; "
            f"use --batch-size {len(source)} or less"
        )


@dataclass(frozen=True, slots=True)
class _Steps:
    """The (epoch, index) pairs of each step; in the main process, so that only it holds the order."""

    found: int
    batch_size: int
    seed: int
    steps: range

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for step in self.steps:
            positions = range(step * self.batch_size, (step + 1) * self.batch_size)
            yield [position_to_sample(position, seed=self.seed, found=self.found) for position in positions]


class _Samples(Dataset[Batch | DataError]):
    """Turns the pairs of one step into its batch, in a worker."""

    def __init__(self, source: Source, image_size: int, seed: int, options: DataConfig) -> None:
        self.source = source
        self.image_size = image_size
        self.seed = seed
        self.options = options

    def __getitems__(self, pairs: Sequence[tuple[int, int]]) -> list[Batch | DataError]:
        """Return one batch; an error comes back as a value, since torch would wrap its message in a traceback."""
        skips: list[Skip] = []
        try:
            samples = [self._usable(epoch, index, skips) for epoch, index in pairs]
        except DataError as error:
            return [error]
        images, captions, ids = zip(*samples, strict=True)
        return [Batch(torch.from_numpy(np.stack(images)), captions, ids, tuple(skips))]

    def _usable(self, epoch: int, index: int, skips: list[Skip]) -> Sample:
        """Return the sample, or a substitute for it and one skip, whatever it took to find the substitute."""
        try:
            return self._sample(epoch, index, index)
        except BadSample as bad:
            skips.append(Skip(epoch, bad.where, bad.reason, bad.detail))
        for attempt in range(MAX_ATTEMPTS):
            other = substitute(self.seed, epoch, index, attempt, len(self.source))
            try:
                return self._sample(epoch, index, other)
            except BadSample as bad:
                last = bad
        raise DataError(
            f"{self.source.name}: {MAX_ATTEMPTS} unusable samples in a row, the last being {last}"
        )

    def _sample(self, epoch: int, index: int, read: int) -> Sample:
        """Read sample `read` with the crop and caption drawn for `index`."""
        record = self.source.read(read)
        image = decode(record.image, record.id, max_pixels=self.options.max_image_pixels)
        rng = augmentation(self.seed, epoch, index)
        pixels = random_crop(image, self.image_size, rng, self.options.min_crop_area)
        return pixels, _caption(record, rng), record.id


def _caption(record: Record, rng: np.random.Generator) -> str:
    if not record.captions:
        raise BadSample("missing caption", record.id, "it has a label, but training needs words")
    return record.captions[int(rng.integers(len(record.captions)))]


def _first(batch: list[Batch | DataError]) -> Batch | DataError:
    return batch[0]


def _outlast_signals(_worker: int) -> None:
    """Leave it to the main process, which the same signal reaches, to finish its step and end its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _stay_a_while)


def _stay_a_while(_number: int, _frame: FrameType | None) -> None:
    """Put off SIGTERM but do not refuse it: Python ends its children with it, too, and then waits for them."""
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGALRM, _leave)
    signal.alarm(GRACE_SECONDS)


def _leave(_number: int, _frame: FrameType | None) -> None:
    os._exit(0)  # any other status would raise in the main process, perhaps while it saves


def _raised(loaded: Iterator[Batch | DataError]) -> Iterator[Batch]:
    """Yield batches and raise errors; end the workers as soon as this ends, in whatever way."""
    try:
        for item in loaded:
            if isinstance(item, DataError):
                raise item
            yield item
    finally:
        # The traceback of an error keeps this frame until the garbage collector comes, which takes the queues to the
        # workers apart before it ends them: they would wait for each other for seconds.
        del loaded
