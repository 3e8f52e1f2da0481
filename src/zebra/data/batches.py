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
from zebra.data.sampling import augmentation_rng, samples_at, substitute_index
from zebra.data.sources import BatchedSource, Source, read_many
from zebra.data.workers import BatchIndices, Heartbeat, run_workers
from zebra.errors import BadSample, ConfigError, DataError
from zebra.images.augment import NUM_CROP_ATTEMPTS, crop_and_resize, sample_crop_box
from zebra.images.jpeg import decode_scaled
from zebra.values import Batch, Record, Skip

MAX_SUBSTITUTE_ATTEMPTS = 100
"""Unusable samples in a row after which a source is given up."""
READ_BATCH_SIZE = 64
"""Samples that are read at once, where that costs less than one by one, and held until they are decoded."""
WORKER_TIMEOUT_SECONDS = 120.0

BatchMetadata: TypeAlias = tuple[tuple[str, ...], tuple[str, ...], tuple[Skip, ...]]
"""Captions, ids and skips of a batch."""


def iter_batches(
    source: Source,
    *,
    image_size: int,
    batch_size: int,
    seed: int,
    start_sample: int,
    num_steps: int,
    num_workers: int,
    config: DataConfig,
    rank: int = 0,
    world_size: int = 1,
    timeout_seconds: float = WORKER_TIMEOUT_SECONDS,
) -> Iterator[Batch]:
    """Yield the batches of `num_steps` steps, or one rank's share of each.

    A batch is a function of seed and position alone: neither the number of workers nor that of ranks nor the position
    begun with changes it. The shares of all ranks, one after another, are the batch of one rank. Where a sample cannot
    be used, another one takes its place and `Batch.skips` says so.

    Args:
        image_size: Side of the square crops, in pixels.
        batch_size: Of all ranks together.
        seed: Decides order, crops and the choice of captions; not negative.
        start_sample: Samples that all ranks consumed before.
        num_workers: Processes that read and decode; 0 does it here.
        rank: Which of the `world_size` shares to yield.
        timeout_seconds: Seconds without one further sample after which a worker counts as stuck.

    Raises:
        DataError: Fewer samples than one batch; while iterating also: no usable sample, a shard that changed, or a
            worker that died or is stuck.
        ConfigError: A negative seed, or a batch that the ranks cannot share.
    """
    require_full_batch(source, batch_size)
    if seed < 0:
        raise ConfigError(f"seed is {seed}; it cannot be negative")
    if batch_size % world_size:
        raise ConfigError(
            f"{world_size} processes cannot share a batch of {batch_size}; use a batch_size that they divide"
        )
    share = batch_size // world_size
    firsts = range(start_sample + rank * share, start_sample + num_steps * batch_size, batch_size)
    orders = (samples_at(first, share, seed=seed, num_samples=len(source)) for first in firsts)
    shape = (share, image_size, image_size, 3)
    fill = _LoadBatch(source, image_size, seed, config)
    if num_workers:
        done = run_workers(
            fill,
            orders,
            shape,
            num_workers=num_workers,
            timeout_seconds=timeout_seconds,
            sample_id=source.sample_id,
        )
    else:
        done = _load_in_process(fill, orders, shape)
    return (Batch(torch.from_numpy(images_BHW3).permute(0, 3, 1, 2), *words) for images_BHW3, words in done)


def require_full_batch(source: Source, batch_size: int) -> None:
    """Raise DataError if the source holds fewer samples than one batch."""
    if len(source) < batch_size:
        raise DataError(
            f"{source.name} holds {len(source)} samples, fewer than one batch of {batch_size}; "
            f"use --batch-size {len(source)} or less"
        )


def _load_in_process(
    task: "_LoadBatch", batch_indices: Iterator[BatchIndices], shape: tuple[int, ...]
) -> Iterator[tuple[NDArray[np.uint8], BatchMetadata]]:
    for order in batch_indices:
        images = np.empty(shape, np.uint8)
        yield images, task(order, images, lambda _index, _together: None)


@dataclass(frozen=True, slots=True)
class _LoadBatch:
    """Turns an order into a batch, in a worker."""

    source: Source
    image_size: int
    seed: int
    config: DataConfig

    def __call__(
        self, indices_B2: BatchIndices, out: NDArray[np.uint8], heartbeat: Heartbeat
    ) -> BatchMetadata:
        """Write the crops into `out` [B, H, W, 3] and return the rest of the batch."""
        skips: list[Skip] = []
        words: list[tuple[str, str]] = []
        crops_B3HW = torch.from_numpy(out).permute(0, 3, 1, 2)
        together = READ_BATCH_SIZE if isinstance(self.source, BatchedSource) else 1
        for first in range(0, len(indices_B2), together):
            chunk = slice(first, first + together)
            indices = indices_B2[chunk, 1].tolist()
            heartbeat(indices[0], len(indices))
            records = read_many(self.source, indices)
            for (epoch, index), record, crop_3HW in zip(
                indices_B2[chunk].tolist(), records, crops_B3HW[chunk], strict=True
            ):
                heartbeat(index, 1)
                words.append(self._load_or_substitute(epoch, index, record, crop_3HW, skips, heartbeat))
        captions, ids = zip(*words, strict=True)
        return captions, ids, tuple(skips)

    def _load_or_substitute(
        self,
        epoch: int,
        index: int,
        record: Record | BadSample,
        crop_3HW: Tensor,
        skips: list[Skip],
        heartbeat: Heartbeat,
    ) -> tuple[str, str]:
        """Take the sample, or a substitute for it and one skip, whatever it took to find the substitute."""
        try:
            return self._load_sample(epoch, index, record, crop_3HW)
        except BadSample as bad:
            skips.append(Skip(epoch, bad.location, bad.reason, bad.detail))
        for attempt in range(MAX_SUBSTITUTE_ATTEMPTS):
            other = substitute_index(self.seed, epoch, index, attempt, len(self.source))
            heartbeat(other, 1)
            try:
                return self._load_sample(epoch, index, self.source.read(other), crop_3HW)
            except BadSample as bad:
                last = bad
        raise DataError(
            f"{self.source.name}: {MAX_SUBSTITUTE_ATTEMPTS} unusable samples in a row, the last being {last}"
        )

    def _load_sample(
        self, epoch: int, index: int, record: Record | BadSample, crop_3HW: Tensor
    ) -> tuple[str, str]:
        """Write a sample's crop, drawn for `index` like its caption, and return caption and id."""
        if isinstance(record, BadSample):
            raise record
        rng = augmentation_rng(self.seed, epoch, index)
        draw = partial(
            sample_crop_box, uniforms=rng.random((NUM_CROP_ATTEMPTS, 4)), min_area=self.config.min_crop_area
        )
        pixels_HW3, box = decode_scaled(
            record.image, record.id, self.image_size, draw, max_pixels=self.config.max_image_pixels
        )
        crop_3HW.copy_(crop_and_resize(pixels_HW3, box, self.image_size))
        return _choose_caption(record, rng), record.id


def _choose_caption(record: Record, rng: np.random.Generator) -> str:
    if not record.captions:
        raise BadSample("missing caption", record.id, "it has a label, but training needs words")
    return record.captions[int(rng.integers(len(record.captions)))]
