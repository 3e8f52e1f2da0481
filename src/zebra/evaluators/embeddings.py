"""Image embeddings of datasets, cached on disk by model and data."""

import hashlib
import json
import shutil
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from zebra.config.cache import cache_dir
from zebra.data.sources import Source
from zebra.distributed import SINGLE_PROCESS, ProcessGroup
from zebra.errors import StoreError
from zebra.images.decode import decode_image
from zebra.images.preprocess import Preprocess
from zebra.pretrained.bundle import BATCH_SIZE, Bundle
from zebra.pretrained.head_cache import hash_weights
from zebra.protocols.linear_probe import select
from zebra.store import Store, StoreMetadata
from zebra.values import Embeddings

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
    if not clip.fingerprint:
        return embed_distributed(clip, source, range(len(source)), group, projected=projected)
    model_key = [clip.fingerprint, hash_weights(clip.model.visual), clip.precision, clip.backend, str(clip.preprocess)]
    key = hashlib.sha256(json.dumps([model_key, source.digest, projected]).encode()).hexdigest()[:32]
    path = cache_dir() / "embeddings" / key
    cached = _load_cached_embeddings(path, source)
    if cached is not None:
        return cached
    embeddings = embed_indices(clip, source, range(len(source)), projected=projected)
    try:
        _cache_embeddings(path, embeddings, clip, projected)
    except (OSError, StoreError) as error:  # without a cache, only time is lost
        warnings.warn(f"the embeddings of {source.name} were not cached: {error}", stacklevel=2)
    return embeddings


def embed_indices(clip: Bundle, source: Source, indices: Iterable[int], *, projected: bool = True) -> Embeddings:
    """Embed the images at the given positions of a source; see `embed_source`."""
    ids: list[str] = []
    labels: list[int] = []

    def iter_images() -> Iterator[bytes]:
        for index in indices:
            record = source.read(index)
            ids.append(record.id)
            labels.append(-1 if record.label is None else record.label)
            yield record.image

    vectors = clip.encode_images(iter_images(), projected=projected).numpy()
    return Embeddings(vectors, tuple(ids), np.array(labels, dtype=np.int64), clip.fingerprint)


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
    pixels_N3HW: Tensor
    """Preprocessed images, uint8; only this process's slice."""
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
        records = [source.read(index) for index in indices[group.local_slice(len(indices))]]
        pixels = [
            preprocess.resize_and_crop(decode_image(record.image, record.id, mode=preprocess.decode))
            for record in records
        ]
        size = preprocess.image_size
        pixels_N3HW = torch.from_numpy(np.stack(pixels)) if pixels else torch.zeros(0, 3, size, size, dtype=torch.uint8)
        ids_and_labels = [(record.id, -1 if record.label is None else record.label) for record in records]
        gathered = [pair for part in group.all_gather_object(ids_and_labels) for pair in part]
        labels = np.array([label for _, label in gathered], dtype=np.int64)
        return cls(tuple(id for id, _ in gathered), pixels_N3HW, labels, group)

    def embed(self, clip: Bundle) -> Embeddings:
        """Embed all images, each process its slice; all processes get all embeddings in order."""
        local = [clip.encode_pixels(part) for part in torch.split(self.pixels_N3HW, BATCH_SIZE) if len(part)]
        parts = [part for parts in self.group.all_gather_object(local) for part in parts]
        return Embeddings(torch.cat(parts).numpy(), self.ids, self.labels, clip.fingerprint)


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
