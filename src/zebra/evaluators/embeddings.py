"""Image embeddings of datasets, cached on disk by model and data."""

import hashlib
import json
import shutil
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from zebra.config.cache import cache_dir
from zebra.data.sources import FrameSource, Source
from zebra.distributed import SINGLE_PROCESS, ProcessGroup
from zebra.errors import BadSample, StoreError
from zebra.evaluators.frames import average_frames
from zebra.images.decode import decode_image
from zebra.images.preprocess import Preprocess, stack_pixels
from zebra.pretrained.bundle import BATCH_SIZE, Bundle
from zebra.pretrained.head_cache import hash_weights
from zebra.protocols.linear_probe import select
from zebra.store import Store, StoreMetadata
from zebra.values import Embeddings, Record

MAX_EMBEDDING_CACHE_BYTES = 8 * 2**30
"""Limit of all cached embeddings on disk; the least recently used are evicted first."""
ROWS_PER_APPEND = 8192
FEATURES_LABEL = "features before the projection"


def embed_source(
    clip: Bundle, source: Source, *, projected: bool = True, group: ProcessGroup = SINGLE_PROCESS
) -> Embeddings:
    """Return the embeddings of all images in the order of the source, from the cache if possible.

    The cache key consists of the model's fingerprint and image weights, its precision, backend and preprocessing, and
    the digest of the data. A model that was never saved has no fingerprint, so its embeddings are not cached.

    Args:
        projected: False returns the features before the projection, which are not of unit length (the paper's probe
            features).
        group: Processes that each embed a part; used only for models without a fingerprint.

    Raises:
        BadSample: An image cannot be used. A score on the other images would belong to another dataset.
    """
    if isinstance(source, FrameSource):
        frames, sample_M = source.split_frames()
        embeddings = embed_source(clip, frames, projected=projected, group=group)
        return average_frames(embeddings, source, sample_M, projected=projected)
    if not clip.fingerprint:
        return embed_distributed(clip, source, range(len(source)), group, projected=projected)
    path = _cache_paths(clip, source)[projected]
    cached = _load_cached_embeddings(path, source)
    if cached is not None:
        return cached
    embeddings = embed_indices(clip, source, range(len(source)), projected=projected)
    _try_to_cache(path, embeddings, clip, source, projected)
    return embeddings


def embed_features_and_vectors(clip: Bundle, source: Source) -> tuple[Embeddings, Embeddings]:
    """Return what `embed_source` returns before and after the projection, from one pass of the image tower.

    Raises:
        BadSample: An image cannot be used.
    """
    if isinstance(source, FrameSource):
        frames, sample_M = source.split_frames()
        of_frames = embed_features_and_vectors(clip, frames)
        mean_features = average_frames(of_frames[0], source, sample_M, projected=False)
        return mean_features, average_frames(of_frames[1], source, sample_M, projected=True)
    paths = _cache_paths(clip, source) if clip.fingerprint else ()
    cached = [_load_cached_embeddings(path, source) for path in paths]
    if len(cached) == 2 and cached[0] is not None and cached[1] is not None:
        return cached[0], cached[1]
    images = _NamedImages(source, range(len(source)))
    with images.name_errors():
        features, vectors = clip.encode_features_and_vectors(images)
    embeddings = tuple(images.to_embeddings(array.numpy(), clip) for array in (features, vectors))
    for path, computed, projected in zip(paths, embeddings, (False, True), strict=False):
        _try_to_cache(path, computed, clip, source, projected)
    return embeddings[0], embeddings[1]


def embed_indices(clip: Bundle, source: Source, indices: Iterable[int], *, projected: bool = True) -> Embeddings:
    """Embed the images at the given positions of a source; see `embed_source`."""
    images = _NamedImages(source, indices)
    with images.name_errors():
        vectors = clip.encode_images(images, projected=projected).numpy()
    return images.to_embeddings(vectors, clip)


class _NamedImages:
    """Encoded images of a source, with the ids and labels of those that were read."""

    def __init__(self, source: Source, indices: Iterable[int]) -> None:
        self.source, self.indices = source, indices
        self.ids: list[str] = []
        self.labels: list[int] = []
        self._is_reading = False

    def __iter__(self) -> Iterator[bytes]:
        for index in self.indices:
            self._is_reading = True
            record = self.source.read(index)
            self._is_reading = False
            self.ids.append(record.id)
            self.labels.append(-1 if record.label is None else record.label)
            yield record.image

    @contextmanager
    def name_errors(self) -> Iterator[None]:
        """Name the dataset and the sample in a BadSample; a decoder knows only the bytes that it got last."""
        try:
            yield
        except BadSample as bad:
            location = bad.location if self._is_reading or not self.ids else self.ids[-1]
            raise name_bad_sample(bad, self.source, location) from bad

    def to_embeddings(self, vectors: NDArray[np.float32], clip: Bundle) -> Embeddings:
        return Embeddings(vectors, tuple(self.ids), np.array(self.labels, dtype=np.int64), clip.fingerprint)


def name_bad_sample(bad: BadSample, source: Source, location: str) -> BadSample:
    """Return a BadSample that names the dataset, and that it is scored with all images or not at all."""
    advice = "A score without it would belong to another dataset. Repair or replace the image"
    detail = f"{bad.detail}. {advice}" if bad.detail else advice
    return BadSample(bad.reason, f"{source.name}: {location}", detail)


def _cache_paths(clip: Bundle, source: Source) -> tuple[Path, Path]:
    """Return the cache entries of the features before the projection and of the vectors."""
    model_key = [clip.fingerprint, hash_weights(clip.model.visual), clip.precision, clip.backend, str(clip.preprocess)]
    keys = (
        hashlib.sha256(json.dumps([model_key, source.digest, projected]).encode()).hexdigest()[:32]
        for projected in (False, True)
    )
    features_key, vectors_key = keys
    return cache_dir() / "embeddings" / features_key, cache_dir() / "embeddings" / vectors_key


def _try_to_cache(path: Path, embeddings: Embeddings, clip: Bundle, source: Source, projected: bool) -> None:
    try:
        _cache_embeddings(path, embeddings, clip, projected)
    except (OSError, StoreError) as error:  # without a cache, only time is lost
        warnings.warn(f"the embeddings of {source.name} were not cached: {error}", stacklevel=3)


def embed_distributed(
    clip: Bundle, source: Source, indices: Sequence[int], group: ProcessGroup, *, projected: bool = True
) -> Embeddings:
    """Embed the images at the given positions, each process its slice; all processes get all embeddings in order."""
    local = embed_indices(clip, source, indices[group.local_slice(len(indices))], projected=projected)
    parts = group.all_gather_object(local)
    labels = [part.labels for part in parts if part.labels is not None]
    vectors = np.concatenate([part.vectors for part in parts if len(part.ids)])
    return Embeddings(
        vectors, tuple(id for part in parts for id in part.ids), np.concatenate(labels), local.fingerprint
    )


@dataclass(frozen=True, slots=True)
class DecodedImages:
    """Images of a dataset, decoded once to be embedded by several models."""

    ids: tuple[str, ...]
    """Ids of all images, not only of this process's."""
    pixels: Sequence[NDArray[np.uint8]]
    """Preprocessed images [3, H, W]; only this process's slice."""
    labels: NDArray[np.int64]
    """Class indices of all images; -1 for none."""
    group: ProcessGroup = SINGLE_PROCESS
    """Processes that each embed a slice."""

    @classmethod
    def decode(
        cls, source: Source, preprocess: Preprocess, indices: Sequence[int], group: ProcessGroup = SINGLE_PROCESS
    ) -> "DecodedImages":
        """Decode the images at the given positions of a source, each process its slice.

        Raises:
            BadSample: An image cannot be used.
        """
        try:
            records = [source.read(index) for index in indices[group.local_slice(len(indices))]]
            pixels = [decode_and_resize(record, preprocess) for record in records]
        except BadSample as bad:
            raise name_bad_sample(bad, source, bad.location) from bad
        ids_and_labels = [(record.id, -1 if record.label is None else record.label) for record in records]
        gathered = [pair for part in group.all_gather_object(ids_and_labels) for pair in part]
        labels = np.array([label for _, label in gathered], dtype=np.int64)
        return cls(tuple(id for id, _ in gathered), pixels, labels, group)

    def embed(self, clip: Bundle) -> Embeddings:
        """Embed all images, each process its slice; all processes get all embeddings in order."""
        starts = range(0, len(self.pixels), BATCH_SIZE)
        local = [clip.encode_pixels(stack_pixels(self.pixels[start : start + BATCH_SIZE])) for start in starts]
        parts = [part for parts in self.group.all_gather_object(local) for part in parts]
        return Embeddings(torch.cat(parts).numpy(), self.ids, self.labels, clip.fingerprint)


def decode_and_resize(record: Record, preprocess: Preprocess) -> NDArray[np.uint8]:
    """Return the image of a record as model input, uint8 [3, H, W]; BadSample if it cannot be used."""
    image = decode_image(record.image, record.id, mode=preprocess.decode, max_aspect_ratio=preprocess.max_aspect_ratio)
    return preprocess.resize_and_crop(image)


def evenly_spaced(num: int, total: int) -> list[int]:
    """Return `num` evenly spaced positions in [0, total), both ends included; all of them if there are fewer.

    >>> evenly_spaced(3, 9), evenly_spaced(5, 2)
    ([0, 4, 8], [0, 1])
    """
    positions: list[int] = np.linspace(0, total - 1, min(num, total)).astype(int).tolist()
    return positions


def stratified_halves(images: Embeddings, seed: int) -> tuple[Embeddings, Embeddings]:
    """Split labeled images at random into two halves of each class."""
    assert images.labels is not None
    rng = np.random.default_rng(seed)
    first = np.zeros(len(images.labels), dtype=np.bool_)
    for label in np.unique(images.labels):
        rows = rng.permutation(np.flatnonzero(images.labels == label))
        first[rows[: len(rows) // 2]] = True
    return select(images, np.flatnonzero(first)), select(images, np.flatnonzero(~first))


def _load_cached_embeddings(path: Path, source: Source) -> Embeddings | None:
    try:
        with Store.open(path) as store:
            if len(store) != len(source):
                return None
            ids, vectors = store.read_vectors()
            labels = [label for batch in store.scan(["label"]) for label in batch["label"].to_pylist()]
            path.touch()
            fingerprint = store.metadata.fingerprint
    except StoreError:  # missing or damaged
        return None
    return Embeddings(
        vectors.astype(np.float32, copy=False), tuple(ids.to_pylist()), np.array(labels, np.int64), fingerprint
    )


def _cache_embeddings(path: Path, embeddings: Embeddings, clip: Bundle, projected: bool) -> None:
    shutil.rmtree(path, ignore_errors=True)
    width = embeddings.vectors.shape[1]
    model = f"{clip.fingerprint}{'' if projected else f', {FEATURES_LABEL}'}"
    metadata = StoreMetadata(clip.fingerprint, model, width, clip.precision, "float32")
    assert embeddings.labels is not None
    with Store.create(path, metadata, pa.schema({"label": pa.int64()})) as store:
        for start in range(0, len(embeddings.ids), ROWS_PER_APPEND):
            rows = slice(start, start + ROWS_PER_APPEND)
            ids = list(embeddings.ids[rows])
            vectors = pa.FixedSizeListArray.from_arrays(pa.array(embeddings.vectors[rows].ravel()), width)
            columns = {"id": ids, "digest": ids, "path": ids, "vector": vectors, "label": embeddings.labels[rows]}
            store.append(pa.table(columns))
    _evict_oldest(path)


def _evict_oldest(newest: Path) -> None:
    entries = sorted(newest.parent.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    total_bytes = 0
    for entry in entries:
        total_bytes += sum(file.stat().st_size for file in entry.rglob("*") if file.is_file())
        if total_bytes > MAX_EMBEDDING_CACHE_BYTES and entry != newest:
            shutil.rmtree(entry, ignore_errors=True)
