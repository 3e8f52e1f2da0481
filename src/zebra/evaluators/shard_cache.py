"""Cache of image embeddings on disk: a file per shard, written atomically.

embeddings/KEY/00000.vectors.safetensors    unit vectors of the first SHARD_IMAGES images of a dataset
embeddings/KEY/00000.features.safetensors   their features before the projection

KEY identifies model, precision and data, so neither another model nor changed data takes these files.
"""

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from zebra.atomic_io import atomic_write
from zebra.config.cache import cache_dir
from zebra.data.sources import Source
from zebra.pretrained.bundle import BATCH_SIZE, Bundle
from zebra.pretrained.head_cache import hash_weights
from zebra.values import Embeddings

SHARD_IMAGES = 16 * BATCH_SIZE
"""Images of a shard: what a killed process computes again at most. The boundaries of shards and batches depend on the
dataset alone, because the last bits of a vector depend on the other images of its batch."""
MAX_EMBEDDING_CACHE_BYTES = 8 * 2**30
"""Limit of all cached embeddings on disk; the least recently used datasets are evicted first."""

EmbeddingKind = Literal["vectors", "features"]
"""Unit vectors, or the features before the projection, which are not of unit length."""


@dataclass(frozen=True, slots=True)
class ShardCache:
    """The cached embeddings of one dataset by one model."""

    path: Path

    @classmethod
    def open(cls, clip: Bundle, source: Source) -> "ShardCache":
        """Return the cache entry of a model that has a fingerprint, and a dataset.

        The key includes the weights in memory, because a loaded model may have been trained on.
        """
        model_key = [clip.fingerprint, hash_weights(clip.model.visual), clip.precision, clip.backend]
        key = json.dumps([*model_key, str(clip.preprocess), source.digest, SHARD_IMAGES])
        return cls(embedding_cache_dir() / hashlib.sha256(key.encode()).hexdigest()[:32])

    def has(self, number: int, kind: EmbeddingKind) -> bool:
        """Return whether a shard is cached, without reading it."""
        return self._file(number, kind).is_file()

    def read(self, number: int, kind: EmbeddingKind) -> Embeddings | None:
        """Return a cached shard; None if it is missing or damaged."""
        try:
            with safe_open(self._file(number, kind), "np") as file:
                metadata = file.metadata() or {}
                vectors, labels = file.get_tensor("vectors"), file.get_tensor("labels")
            if number == 0:
                self.path.touch()  # of all datasets, the least recently used are evicted first
            embeddings = Embeddings(vectors, tuple(json.loads(metadata["ids"])), labels, metadata["fingerprint"])
            return embeddings if metadata["sha256"] == _digest(embeddings) else None
        except (OSError, SafetensorError, KeyError, ValueError):
            return None

    def read_kinds(self, number: int, kinds: tuple[EmbeddingKind, ...]) -> dict[EmbeddingKind, Embeddings] | None:
        """Return all of these kinds of a cached shard; None if one is missing or damaged."""
        embeddings = {kind: cached for kind in kinds if (cached := self.read(number, kind)) is not None}
        return embeddings if len(embeddings) == len(kinds) else None

    def write(self, number: int, kind: EmbeddingKind, embeddings: Embeddings) -> None:
        """Write a shard; raise OSError if the cache cannot be written."""
        self.path.mkdir(parents=True, exist_ok=True)
        assert embeddings.labels is not None
        metadata = {
            "ids": json.dumps(embeddings.ids),
            "fingerprint": embeddings.fingerprint,
            "sha256": _digest(embeddings),
        }
        with atomic_write(self._file(number, kind)) as partial:
            try:
                save_file({"vectors": embeddings.vectors, "labels": embeddings.labels}, partial, metadata)
            except SafetensorError as error:  # safetensors reports a full disk so
                raise OSError(str(error)) from error

    def _file(self, number: int, kind: EmbeddingKind) -> Path:
        return self.path / f"{number:05d}.{kind}.safetensors"


def embedding_cache_dir() -> Path:
    """Return the folder of all cached embeddings."""
    return cache_dir() / "embeddings"


def evict_oldest_embeddings() -> None:
    """Remove the least recently used datasets from the cache until it is below its limit; the newest one stays."""
    try:
        entries = sorted(embedding_cache_dir().iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    except OSError:  # no cache, or another process evicts
        return
    total_bytes = 0
    for number, entry in enumerate(entries):
        try:
            total_bytes += sum(file.stat().st_size for file in entry.rglob("*") if file.is_file())
        except OSError:
            continue
        if total_bytes > MAX_EMBEDDING_CACHE_BYTES and number > 0:
            shutil.rmtree(entry, ignore_errors=True)


def _digest(embeddings: Embeddings) -> str:
    assert embeddings.labels is not None
    digest = hashlib.sha256(np.ascontiguousarray(embeddings.vectors).data)
    digest.update(np.ascontiguousarray(embeddings.labels).data)
    digest.update(json.dumps(embeddings.ids).encode())
    return digest.hexdigest()
