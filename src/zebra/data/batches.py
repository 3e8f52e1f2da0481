"""Batches of training samples, identical for any number of workers and ranks."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from zebra.config.data import DataConfig
from zebra.data.bad_samples import NoUsableSamples
from zebra.data.sampling import EpochOrder, augmentation_rng, epoch_permutation, samples_at, substitute_index
from zebra.data.sources import BatchedSource, Source, read_many
from zebra.data.workers import BatchIndices, Heartbeat, run_workers
from zebra.errors import BadSample, ConfigError, DataError
from zebra.images.augment import NUM_CROP_ATTEMPTS, PatchCrop, SquareCrop
from zebra.images.jpeg import decode_scaled
from zebra.values import Batch, Record, Skip

MAX_SUBSTITUTE_ATTEMPTS = 100
"""Number of consecutive bad substitutes after which loading fails."""
READ_BATCH_SIZE = 64
"""Number of samples that a BatchedSource reads together; they stay in memory until they are decoded."""
WORKER_TIMEOUT_SECONDS = 120.0

BatchMetadata: TypeAlias = tuple[
    tuple[str, ...], tuple[str, ...], tuple[str | None, ...], tuple[Skip, ...], tuple[str | None, ...]
]
"""Captions, IDs, groups, skips and hard negatives of a batch."""
SampleTexts: TypeAlias = tuple[str, str, str | None, str | None]
"""Caption, ID, group and hard negative of a sample."""


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
    patch_crop: PatchCrop | None = None,
    epoch_order: EpochOrder = epoch_permutation,
) -> Iterator[Batch]:
    """Yield the batches of `num_steps` steps, or the slice of one rank of each.

    A batch depends on the seed and the position only, not on the number of workers or ranks or on `start_sample`. The
    slices of all ranks, concatenated, are the global batch. A substitute replaces each bad sample and `Batch.skips`
    lists the bad ones.

    Args:
        source: Captioned images.
        image_size: Side of the square crops, in pixels.
        batch_size: Global batch size, of all ranks together.
        seed: Seed of the order, the crops and the choice of captions; not negative.
        start_sample: Number of samples that all ranks consumed before.
        num_steps: Number of batches.
        num_workers: Number of processes that read and decode; 0 loads in this process.
        config: Crop area and the limit of pixels.
        rank: Index of the slice to yield.
        world_size: Number of slices.
        timeout_seconds: Maximum time without a new sample before a worker counts as stuck.
        patch_crop: For NaFlex: crops into patches, in place of squares of `image_size`.
        epoch_order: The order of the samples in each epoch; random by default.

    Raises:
        DataError: There are fewer samples than one batch. While iterating also: NoUsableSamples, a
            changed shard, or a worker that died or is stuck.
        ConfigError: The seed is negative, or batch_size is not divisible by world_size.
    """
    require_full_batch(source, batch_size)
    if seed < 0:
        raise ConfigError(f"seed must not be negative; got {seed}")
    if batch_size % world_size:
        raise ConfigError(
            f"batch_size {batch_size} is not divisible by {world_size} processes. Use a multiple of {world_size}"
        )
    local_batch_size = batch_size // world_size
    starts = range(start_sample + rank * local_batch_size, start_sample + num_steps * batch_size, batch_size)
    batch_indices = (
        samples_at(start, local_batch_size, seed=seed, num_samples=len(source), epoch_order=epoch_order)
        for start in starts
    )
    crop = patch_crop or SquareCrop(image_size)
    shape = (local_batch_size, *crop.shape)
    task = _LoadBatch(source, crop, seed, config)
    if num_workers:
        outputs = run_workers(
            task,
            batch_indices,
            shape,
            num_workers=num_workers,
            timeout_seconds=timeout_seconds,
            sample_id=source.sample_id,
        )
    else:
        outputs = _load_in_process(task, batch_indices, shape)
    return (Batch(crop.to_batch(images), *metadata) for images, metadata in outputs)


def require_full_batch(source: Source, batch_size: int) -> None:
    """Raise DataError if the source has fewer samples than one batch."""
    if len(source) < min(2, batch_size):
        raise DataError(
            f"{source.name} has {len(source)} sample; a contrastive loss needs at least 2. Add captioned images"
        )
    if len(source) < batch_size:
        raise DataError(
            f"{source.name} has {len(source)} samples, fewer than one batch of {batch_size}. "
            f"Use --batch-size {len(source)} or less"
        )


def _load_in_process(
    task: "_LoadBatch", batch_indices: Iterator[BatchIndices], shape: tuple[int, ...]
) -> Iterator[tuple[NDArray[np.uint8], BatchMetadata]]:
    for indices_B2 in batch_indices:
        images = np.empty(shape, np.uint8)
        yield images, task(indices_B2, images, lambda _index, _num_samples: None)


@dataclass(frozen=True, slots=True)
class _LoadBatch:
    """The worker task that loads one batch."""

    source: Source
    crop: SquareCrop | PatchCrop
    seed: int
    config: DataConfig

    def __call__(self, indices_B2: BatchIndices, out: NDArray[np.uint8], heartbeat: Heartbeat) -> BatchMetadata:
        """Write the crops into `out` [B, *crop.shape] and return captions, IDs, groups, skips and negatives."""
        skips: list[Skip] = []
        texts: list[SampleTexts] = []
        chunk_size = READ_BATCH_SIZE if isinstance(self.source, BatchedSource) else 1
        for start in range(0, len(indices_B2), chunk_size):
            chunk = slice(start, start + chunk_size)
            indices = indices_B2[chunk, 1].tolist()
            heartbeat(indices[0], len(indices))
            records = read_many(self.source, indices)
            for (epoch, index), record, image in zip(indices_B2[chunk].tolist(), records, out[chunk], strict=True):
                heartbeat(index, 1)
                texts.append(self._load_or_substitute(epoch, index, record, image, skips, heartbeat))
        captions, ids, groups, negatives = zip(*texts, strict=True)
        return captions, ids, groups, tuple(skips), negatives if self.config.negatives_column else ()

    def _load_or_substitute(
        self,
        epoch: int,
        index: int,
        record: Record | BadSample,
        out: NDArray[np.uint8],
        skips: list[Skip],
        heartbeat: Heartbeat,
    ) -> SampleTexts:
        """Load the sample, or skip it once and load the first usable substitute."""
        bad_samples = []
        try:
            return self._load_sample(epoch, index, record, out)
        except BadSample as bad:
            skips.append(Skip(epoch, bad.location, bad.reason, bad.detail))
            bad_samples.append(bad)
        for attempt in range(MAX_SUBSTITUTE_ATTEMPTS):
            substitute = substitute_index(self.seed, epoch, index, attempt, len(self.source))
            heartbeat(substitute, 1)
            try:
                return self._load_sample(epoch, index, self.source.read(substitute), out)
            except BadSample as bad:
                bad_samples.append(bad)
        raise NoUsableSamples(self.source.name, len(self.source), bad_samples)

    def _load_sample(self, epoch: int, index: int, record: Record | BadSample, out: NDArray[np.uint8]) -> SampleTexts:
        """Write the sample's crop and return its texts. A substitute uses the random stream of `index`."""
        if isinstance(record, BadSample):
            raise record
        rng = augmentation_rng(self.seed, epoch, index)
        draw_box = partial(
            self.crop.sample_box, uniforms=rng.random((NUM_CROP_ATTEMPTS, 4)), min_area=self.config.min_crop_area
        )
        pixels_HW3, box = decode_scaled(
            record.image, record.id, self.crop.min_shorter_side, draw_box, max_pixels=self.config.max_image_pixels
        )
        self.crop.write(pixels_HW3, box, out)
        caption = _choose_caption(record, rng)
        return caption, record.id, record.group, _choose_negative(record, caption, rng)


def _choose_caption(record: Record, rng: np.random.Generator) -> str:
    if not record.captions:
        raise BadSample("missing caption", record.id, "it has only a label")
    num_captions = len(record.captions)
    if record.caption_probabilities:
        return record.captions[int(rng.choice(num_captions, p=record.caption_probabilities))]
    return record.captions[int(rng.integers(num_captions))]


def _choose_negative(record: Record, caption: str, rng: np.random.Generator) -> str | None:
    if not record.negatives:
        return None
    negative = record.negatives[int(rng.integers(len(record.negatives)))]
    # Another caption of the image is no wrong one. As the drawn caption, it is dropped and counted in the step.
    return caption if negative in record.captions else negative
