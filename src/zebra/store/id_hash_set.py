"""Which ids a store holds, in eight bytes each: batches of ids in, those that may be there already out."""

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


class KnownIds:
    """A sorted array of hashes: 80 MB for ten million ids, where a set of strings takes more than a gigabyte."""

    def __init__(self, batches: Iterable[pa.Array]) -> None:
        parts = [_hashes(batch.to_pylist()) for batch in batches]
        self._sorted = np.sort(np.concatenate(parts)) if parts else np.empty(0, np.int64)

    def suspects(self, ids: Sequence[str]) -> list[str]:
        """Return those that are known, and by a chance of one in 10¹² some that are not: ask the store itself."""
        if not len(self._sorted):
            return []
        hashes = _hashes(ids)
        places = np.searchsorted(self._sorted, hashes).clip(max=len(self._sorted) - 1)
        return [name for name, known in zip(ids, self._sorted[places] == hashes, strict=True) if known]

    def add(self, ids: Sequence[str]) -> None:
        """Know these too."""
        hashes = np.sort(_hashes(ids))
        self._sorted = np.insert(self._sorted, np.searchsorted(self._sorted, hashes), hashes)


def _hashes(ids: Sequence[str]) -> NDArray[np.int64]:
    return np.fromiter(map(hash, ids), np.int64, len(ids))
