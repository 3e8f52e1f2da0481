"""A source, a seed and a position in; batches of decoded training samples out, the same for any workers and ranks."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zebra.config.data import DataConfig
from zebra.data.sampling import augmentation, samples_at, substitute
from zebra.data.sources import BatchedSource, Source, read_many
from zebra.data.workers import Note, Order, filled
from zebra.errors import BadSample, ConfigError, DataError
from zebra.images.augment import TRIES, cut, random_box
from zebra.images.jpeg import decode_scaled
from zebra.values import Batch, Record, Skip

MAX_ATTEMPTS = 100
"""Unusable samples in a row after which a source is given up."""
TOGETHER = 64
"""Samples that are read at once, where that costs less than one by one, and held until they are decoded."""
TIMEOUT_SECONDS = 120.0

Words: TypeAlias = tuple[tuple[str, ...], tuple[str, ...], tuple[Skip, ...]]
"""Captions, ids and skips of a batch."""


def batches(
    source: Source,
    *,
    image_size: int,
    batch_size: int,
    seed: int,
    start: int,
    steps: int,
    workers: int,
    options: DataConfig,
    rank: int = 0,
    ranks: int = 1,
    timeout: float = TIMEOUT_SECONDS,
) -> Iterator[Batch]:
    """Yield the batches of `steps` steps, or one rank's share of each.

    A batch is a function of seed and position alone: neither the number of workers nor that of ranks nor the position
    begun with changes it. The shares of all ranks, one after another, are the batch of one rank. Where a sample cannot
    be used, another one takes its place and `Batch.skips` says so.

    Args:
        image_size: Side of the square crops, in pixels.
        batch_size: Of all ranks together.
        seed: Decides order, crops and the choice of captions; not negative.
        start: Samples that all ranks consumed before.
        workers: Processes that read and decode; 0 does it here.
        rank: Which of the `ranks` shares to yield.
        timeout: Seconds without one further sample after which a worker counts as stuck.

    Raises:
        DataError: Fewer samples than one batch; while iterating also: no usable sample, a shard that changed, or a
            worker that died or is stuck.
        ConfigError: A negative seed, or a batch that the ranks cannot share.
    """
    require_batch(source, batch_size)
    if seed < 0:
        raise ConfigError(f"seed is {seed}; it cannot be negative")
    if batch_size % ranks:
        raise ConfigError(
            f"{ranks} processes cannot share a batch of {batch_size}; use a batch_size that they divide"
        )
    share = batch_size // ranks
    firsts = range(start + rank * share, start + steps * batch_size, batch_size)
    orders = (samples_at(first, share, seed=seed, found=len(source)) for first in firsts)
    shape = (share, image_size, image_size, 3)
    fill = _Fill(source, image_size, seed, options)
    if workers:
        done = filled(fill, orders, shape, workers=workers, timeout=timeout, name=source.locate)
    else:
        done = _filled_here(fill, orders, shape)
    return (Batch(torch.from_numpy(images_BHW3).permute(0, 3, 1, 2), *words) for images_BHW3, words in done)


def require_batch(source: Source, batch_size: int) -> None:
    """Raise DataError if the source holds fewer samples than one batch."""
    if len(source) < batch_size:
        raise DataError(
            f"{source.name} holds {len(source)} samples, fewer than one batch of {batch_size}; "
            f"use --batch-size {len(source)} or less"
        )


def _filled_here(
    fill: "_Fill", orders: Iterator[Order], shape: tuple[int, ...]
) -> Iterator[tuple[NDArray[np.uint8], Words]]:
    for order in orders:
        images = np.empty(shape, np.uint8)
        yield images, fill(order, images, lambda _index, _together: None)


@dataclass(frozen=True, slots=True)
class _Fill:
    """Turns an order into a batch, in a worker."""

    source: Source
    image_size: int
    seed: int
    options: DataConfig

    def __call__(self, order: Order, into: NDArray[np.uint8], note: Note) -> Words:
        """Write the crops into `into` [B, H, W, 3] and return the rest of the batch."""
        skips: list[Skip] = []
        words: list[tuple[str, str]] = []
        crops_B3HW = torch.from_numpy(into).permute(0, 3, 1, 2)
        together = TOGETHER if isinstance(self.source, BatchedSource) else 1
        for first in range(0, len(order), together):
            chunk = slice(first, first + together)
            indices = order[chunk, 1].tolist()
            note(indices[0], len(indices))
            records = read_many(self.source, indices)
            for (epoch, index), record, crop_3HW in zip(
                order[chunk].tolist(), records, crops_B3HW[chunk], strict=True
            ):
                note(index, 1)
                words.append(self._usable(epoch, index, record, crop_3HW, skips, note))
        captions, ids = zip(*words, strict=True)
        return captions, ids, tuple(skips)

    def _usable(
        self,
        epoch: int,
        index: int,
        record: Record | BadSample,
        crop_3HW: Tensor,
        skips: list[Skip],
        note: Note,
    ) -> tuple[str, str]:
        """Take the sample, or a substitute for it and one skip, whatever it took to find the substitute."""
        try:
            return self._take(epoch, index, record, crop_3HW)
        except BadSample as bad:
            skips.append(Skip(epoch, bad.where, bad.reason, bad.detail))
        for attempt in range(MAX_ATTEMPTS):
            other = substitute(self.seed, epoch, index, attempt, len(self.source))
            note(other, 1)
            try:
                return self._take(epoch, index, self.source.read(other), crop_3HW)
            except BadSample as bad:
                last = bad
        raise DataError(
            f"{self.source.name}: {MAX_ATTEMPTS} unusable samples in a row, the last being {last}"
        )

    def _take(self, epoch: int, index: int, record: Record | BadSample, crop_3HW: Tensor) -> tuple[str, str]:
        """Write a sample's crop, drawn for `index` like its caption, and return caption and id."""
        if isinstance(record, BadSample):
            raise record
        rng = augmentation(self.seed, epoch, index)
        draw = partial(random_box, chances=rng.random((TRIES, 4)), min_area=self.options.min_crop_area)
        pixels_HW3, box = decode_scaled(
            record.image, record.id, self.image_size, draw, max_pixels=self.options.max_image_pixels
        )
        crop_3HW.copy_(cut(pixels_HW3, box, self.image_size))
        return _caption(record, rng), record.id


def _caption(record: Record, rng: np.random.Generator) -> str:
    if not record.captions:
        raise BadSample("missing caption", record.id, "it has a label, but training needs words")
    return record.captions[int(rng.integers(len(record.captions)))]
