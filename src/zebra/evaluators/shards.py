"""Embed the images of datasets in shards: decoding runs beside the image tower.

A worker thread takes a whole batch through the image tower with one torch thread: two cores with a batch each are
faster than two that share one, and the vectors are bit for bit the same for any number of cores and processes. On a GPU
one thread runs the tower. The tower finishes a shard before it starts the next one, while later images are decoded.
"""

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from zebra.config.cores import usable_cores
from zebra.data.sources import Source
from zebra.engines import ThreadEngine
from zebra.errors import BadSample, DataError
from zebra.evaluators.decoded_images import decode_and_resize, name_bad_sample
from zebra.evaluators.shard_cache import SHARD_IMAGES, EmbeddingKind
from zebra.images.tensors import Pixels, stack_pixels
from zebra.pretrained.bundle import BATCH_SIZE, Bundle
from zebra.pretrained.torch_threads import limit_torch_threads
from zebra.values import Embeddings

EmbeddedShard = dict[EmbeddingKind, Embeddings]


@dataclass(frozen=True, slots=True)
class Shard:
    """Images of a dataset that are embedded together."""

    source: Source
    indices: Sequence[int]
    """Positions in the source."""
    kinds: tuple[EmbeddingKind, ...]
    """What is computed of the images."""
    number: int = 0
    """Number of the shard in its dataset."""


def split_into_shards(source: Source, kinds: tuple[EmbeddingKind, ...]) -> list[Shard]:
    """Return the shards of a dataset."""
    starts = range(0, len(source), SHARD_IMAGES)
    return [
        Shard(source, range(start, min(start + SHARD_IMAGES, len(source))), kinds, number)
        for number, start in enumerate(starts)
    ]


def embed_shards(
    clip: Bundle,
    shards: Iterable[Shard],
    *,
    num_threads: int | None = None,
    on_batch: Callable[[int], None] = lambda _num_images: None,
) -> Iterator[tuple[Shard, EmbeddedShard | DataError]]:
    """Yield each shard with its embeddings as soon as it is finished, or with the error of an image.

    Memory does not depend on the number of shards, which are taken from the iterable when they are needed.

    Args:
        num_threads: Threads that decode and, on the CPU, encode; None for one per core of this process.
        on_batch: Called after each batch with the number of its images.
    """
    num_threads = num_threads or _cores_of_process()
    num_encoders = num_threads if clip.device.type == "cpu" else 1
    encoder = _BatchEncoder(clip)
    decoded = ThreadEngine(num_threads).map(encoder.decode, _batches(shards))
    with limit_torch_threads(torch.get_num_threads()), closing(decoded):  # one torch thread for each encoder
        is_finished = False
        while not is_finished:
            is_finished = True
            parts: list[_EncodedBatch] = []
            for batch in ThreadEngine(num_encoders).map(encoder.encode, _whole_shards(decoded, num_encoders)):
                is_finished = False
                on_batch(len(batch.ids))
                parts.append(batch)
                if batch.is_last:
                    yield batch.shard, _join(clip, parts)
                    parts = []


@dataclass(frozen=True, slots=True)
class _Batch:
    """Positions of images of a shard that pass the image tower together."""

    shard: Shard
    indices: Sequence[int]
    is_last: bool
    """Whether it is the last batch of its shard."""


@dataclass(frozen=True, slots=True)
class _DecodedBatch:
    shard: Shard
    is_last: bool
    ids: tuple[str, ...]
    labels: tuple[int, ...]
    pixels: Pixels | DataError


@dataclass(frozen=True, slots=True)
class _EncodedBatch:
    shard: Shard
    is_last: bool
    ids: tuple[str, ...]
    labels: tuple[int, ...]
    arrays: Mapping[EmbeddingKind, NDArray[np.float32]] | DataError


def _batches(shards: Iterable[Shard]) -> Iterator[_Batch]:
    for shard in shards:
        for start in range(0, len(shard.indices), BATCH_SIZE):
            stop = start + BATCH_SIZE
            yield _Batch(shard, shard.indices[start:stop], stop >= len(shard.indices))


def _whole_shards(decoded: Iterator[_DecodedBatch], min_batches: int) -> Iterator[_DecodedBatch]:
    """Yield the batches of one shard; of several if that has fewer batches than there are encoders."""
    for number, batch in enumerate(decoded, start=1):
        yield batch
        if batch.is_last and number >= min_batches:
            return


class _BatchEncoder:
    """The stages of a batch; called by several threads."""

    def __init__(self, clip: Bundle) -> None:
        self._clip = clip
        self._read_lock = threading.Lock()  # not every source can be read by several threads

    def decode(self, batch: _Batch) -> _DecodedBatch:
        """Read and decode a batch."""
        source = batch.shard.source
        ids, labels, images = [], [], []
        try:
            for index in batch.indices:
                with self._read_lock:
                    record = source.read(index)
                ids.append(record.id)
                labels.append(-1 if record.label is None else record.label)
                images.append(decode_and_resize(record, self._clip.preprocess))
            pixels: Pixels | DataError = stack_pixels(images)
        except BadSample as bad:
            pixels = name_bad_sample(bad, source, bad.location)
        except DataError as error:
            pixels = error
        return _DecodedBatch(batch.shard, batch.is_last, tuple(ids), tuple(labels), pixels)

    def encode(self, batch: _DecodedBatch) -> _EncodedBatch:
        """Take a decoded batch through the image tower."""
        arrays = (
            batch.pixels
            if isinstance(batch.pixels, DataError)
            else _encode_kinds(self._clip, batch.pixels, batch.shard.kinds)
        )
        return _EncodedBatch(batch.shard, batch.is_last, batch.ids, batch.labels, arrays)


def _encode_kinds(
    clip: Bundle, pixels: Pixels, kinds: tuple[EmbeddingKind, ...]
) -> dict[EmbeddingKind, NDArray[np.float32]]:
    """Encode preprocessed images in one pass of the image tower."""
    if kinds == ("vectors",):
        return {"vectors": clip.encode_pixels(pixels).numpy()}
    features, vectors = clip.encode_pixels_with_features(pixels)
    arrays: dict[EmbeddingKind, NDArray[np.float32]] = {"features": features.numpy(), "vectors": vectors.numpy()}
    return {kind: arrays[kind] for kind in kinds}


def _join(clip: Bundle, batches: Sequence[_EncodedBatch]) -> EmbeddedShard | DataError:
    """Return the embeddings of a shard, or the first error in it."""
    arrays = []
    for batch in batches:
        if isinstance(batch.arrays, DataError):
            return batch.arrays
        arrays.append(batch.arrays)
    ids = tuple(id for batch in batches for id in batch.ids)
    labels = np.array([label for batch in batches for label in batch.labels], np.int64)
    return {
        kind: Embeddings(np.concatenate([each[kind] for each in arrays]), ids, labels, clip.fingerprint)
        for kind in batches[0].shard.kinds
    }


def _cores_of_process() -> int:
    """Return the number of cores of this process, of those that torchrun started on this machine."""
    return max(1, usable_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
