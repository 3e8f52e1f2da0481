"""Compact index from ids to row positions, 16 bytes per row."""

from collections.abc import Iterable
from functools import cached_property
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_SIDES: tuple[Literal["left"], Literal["right"]] = ("left", "right")


class IdIndex:
    """Hashes of all ids in store order, and their sort order."""

    def __init__(self, hashes_N: NDArray[np.int64]) -> None:
        self._hashes_N = hashes_N

    @classmethod
    def from_batches(cls, batches: Iterable[pa.Array]) -> "IdIndex":
        """Create an index from batches of ids in store order."""
        return cls(np.empty(0, np.int64)).with_batches(batches)

    def with_batches(self, batches: Iterable[pa.Array]) -> "IdIndex":
        """Return an index with more ids appended."""
        parts = [np.fromiter(map(hash, batch.to_pylist()), np.int64, len(batch)) for batch in batches]
        return IdIndex(np.concatenate([self._hashes_N, *parts]))

    def candidate_positions(self, id: str) -> list[int]:
        """Return the positions whose id has the same hash, almost always at most one; compare the id there."""
        id_hash = hash(id)
        start, stop = (int(np.searchsorted(self._hashes_N, id_hash, side, sorter=self._order_N)) for side in _SIDES)
        positions: list[int] = self._order_N[start:stop].tolist()
        return positions

    @cached_property
    def _order_N(self) -> NDArray[np.int64]:
        return np.argsort(self._hashes_N, kind="stable")
