"""Which ids a store holds, in eight bytes each: batches of ids in, those that may be there already out."""

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


class IdHashSet:
    """A sorted array of hashes: 80 MB for ten million ids, where a set of strings takes more than a gigabyte."""

    def __init__(self, batches: Iterable[pa.Array]) -> None:
        parts = [_hash_ids(batch.to_pylist()) for batch in batches]
        self._sorted_hashes = np.sort(np.concatenate(parts)) if parts else np.empty(0, np.int64)

    def possible_members(self, ids: Sequence[str]) -> list[str]:
        """Return those that are known, and by a chance of one in 10¹² some that are not: ask the store itself."""
        if not len(self._sorted_hashes):
            return []
        hashes = _hash_ids(ids)
        places = np.searchsorted(self._sorted_hashes, hashes).clip(max=len(self._sorted_hashes) - 1)
        return [name for name, known in zip(ids, self._sorted_hashes[places] == hashes, strict=True) if known]

    def add(self, ids: Sequence[str]) -> None:
        """Know these too."""
        hashes = np.sort(_hash_ids(ids))
        self._sorted_hashes = np.insert(
            self._sorted_hashes, np.searchsorted(self._sorted_hashes, hashes), hashes
        )


def _hash_ids(ids: Sequence[str]) -> NDArray[np.int64]:
    return np.fromiter(map(hash, ids), np.int64, len(ids))
