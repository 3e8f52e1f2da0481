"""Image embeddings of datasets, cached on disk by model and data."""

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from zebra.data.sources import FrameSource, Source
from zebra.distributed import SINGLE_PROCESS, ProcessGroup
from zebra.errors import DataError
from zebra.evaluators.frames import average_frames
from zebra.evaluators.shard_cache import EmbeddingKind, ShardCache, evict_oldest_embeddings
from zebra.evaluators.shards import EmbeddedShard, Shard, embed_shards, split_into_shards
from zebra.pretrained.bundle import Bundle
from zebra.protocols.linear_probe import select
from zebra.values import Embeddings


def embed_source(
    clip: Bundle, source: Source, *, projected: bool = True, group: ProcessGroup = SINGLE_PROCESS
) -> Embeddings:
    """Return the embeddings of all images in the order of the source, from the cache if possible.

    Each shard is cached as soon as it is computed, by the model's fingerprint and image weights, its precision,
    backend and preprocessing, and the digest of the data. A model that was never saved has no fingerprint, so its
    embeddings are not cached.

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
    (embeddings,) = _load_or_embed(clip, source, ("vectors" if projected else "features",))
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
    features, vectors = _load_or_embed(clip, source, ("features", "vectors"))
    return features, vectors


def embed_indices(clip: Bundle, source: Source, indices: Sequence[int], *, projected: bool = True) -> Embeddings:
    """Embed the images at the given positions of a source; see `embed_source`."""
    kind: EmbeddingKind = "vectors" if projected else "features"
    if not len(indices):
        return Embeddings(np.zeros((0, clip.embed_dim), np.float32), (), np.zeros(0, np.int64), clip.fingerprint)
    ((_, shard),) = embed_shards(clip, [Shard(source, indices, (kind,))])
    if isinstance(shard, DataError):
        raise shard
    return shard[kind]


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


def _load_or_embed(clip: Bundle, source: Source, kinds: tuple[EmbeddingKind, ...]) -> list[Embeddings]:
    """Return each kind of embeddings of a source; shards that are not in the cache are computed and cached."""
    cache = ShardCache.open(clip, source) if clip.fingerprint else None
    collectors = {kind: _Collector(len(source)) for kind in kinds}
    missing = []
    for shard in split_into_shards(source, kinds):
        cached = cache.read_kinds(shard.number, kinds) if cache else None
        if cached is None:
            missing.append(shard)
            continue
        for kind, embeddings in cached.items():
            collectors[kind].add(shard, embeddings)
    for shard, embedded in embed_shards(clip, missing):
        if isinstance(embedded, DataError):
            raise embedded
        cache = cache and _try_to_cache(cache, shard, embedded)
        for kind, embeddings in embedded.items():
            collectors[kind].add(shard, embeddings)
    if cache and missing:
        evict_oldest_embeddings()
    return [collectors[kind].to_embeddings(clip.fingerprint) for kind in kinds]


def _try_to_cache(cache: ShardCache, shard: Shard, embedded: EmbeddedShard) -> ShardCache | None:
    """Cache a shard; without a cache, only time is lost. Return the cache, or None if it cannot be written."""
    try:
        for kind, embeddings in embedded.items():
            cache.write(shard.number, kind, embeddings)
    except OSError as error:
        warnings.warn(f"the embeddings of {shard.source.name} were not cached: {error}", stacklevel=4)
        return None
    return cache


class _Collector:
    """Puts the embeddings of shards in the order of the dataset."""

    def __init__(self, num_images: int) -> None:
        self._vectors: NDArray[np.float32] | None = None
        self._labels = np.zeros(num_images, np.int64)
        self._ids = [""] * num_images

    def add(self, shard: Shard, embeddings: Embeddings) -> None:
        """Copy the embeddings of a shard to their positions."""
        if self._vectors is None:  # their width is known now
            self._vectors = np.zeros((len(self._ids), embeddings.vectors.shape[1]), np.float32)
        rows = slice(shard.indices[0], shard.indices[-1] + 1)
        assert embeddings.labels is not None
        self._vectors[rows], self._labels[rows], self._ids[rows] = embeddings.vectors, embeddings.labels, embeddings.ids

    def to_embeddings(self, fingerprint: str) -> Embeddings:
        """Return the embeddings of all shards."""
        assert self._vectors is not None, "a dataset has at least one image"
        return Embeddings(self._vectors, tuple(self._ids), self._labels, fingerprint)


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
