"""Compact set of id hashes: a fast membership test with rare false positives."""

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


class IdHashSet:
    """A sorted array of 64-bit hashes.

    It takes 80 MB for ten million ids; a set of strings takes more than a gigabyte.
    """

    def __init__(self, batches: Iterable[pa.Array]) -> None:
        parts = [_hash_ids(batch.to_pylist()) for batch in batches]
        self._sorted_hashes = np.sort(np.concatenate(parts)) if parts else np.empty(0, np.int64)

    def possible_members(self, ids: Sequence[str]) -> list[str]:
        """Return the ids whose hash is in the set.

        All members are returned. A non-member is returned with a probability of about 1e-12, so confirm in the store.
        """
        if not len(self._sorted_hashes):
            return []
        hashes = _hash_ids(ids)
        positions = np.searchsorted(self._sorted_hashes, hashes).clip(max=len(self._sorted_hashes) - 1)
        is_member = self._sorted_hashes[positions] == hashes
        return [id for id, matches in zip(ids, is_member, strict=True) if matches]

    def add(self, ids: Sequence[str]) -> None:
        """Add ids."""
        hashes = np.sort(_hash_ids(ids))
        self._sorted_hashes = np.insert(self._sorted_hashes, np.searchsorted(self._sorted_hashes, hashes), hashes)


def _hash_ids(ids: Sequence[str]) -> NDArray[np.int64]:
    return np.fromiter(map(hash, ids), np.int64, len(ids))
