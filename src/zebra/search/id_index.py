"""Ids in, the positions of their rows out, in 16 bytes for each row of a store."""

from collections.abc import Iterable
from functools import cached_property
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_SIDES: tuple[Literal["left"], Literal["right"]] = ("left", "right")


class IdIndex:
    """A sorted array of hashes, and where each came from."""

    def __init__(self, hashes_N: NDArray[np.int64]) -> None:
        self._hashes_N = hashes_N

    @classmethod
    def from_batches(cls, batches: Iterable[pa.Array]) -> "IdIndex":
        """Take ids in the order of the store."""
        return cls(np.empty(0, np.int64)).with_batches(batches)

    def with_batches(self, batches: Iterable[pa.Array]) -> "IdIndex":
        """Return them with more ids behind the others."""
        parts = [np.fromiter(map(hash, batch.to_pylist()), np.int64, len(batch)) for batch in batches]
        return IdIndex(np.concatenate([self._hashes_N, *parts]))

    def candidate_positions(self, id: str) -> list[int]:
        """Return where an id may be: one place, or by a rare chance more; the row there says whether it is."""
        wanted = hash(id)
        first, last = (
            int(np.searchsorted(self._hashes_N, wanted, side, sorter=self._order_N)) for side in _SIDES
        )
        places: list[int] = self._order_N[first:last].tolist()
        return places

    @cached_property
    def _order_N(self) -> NDArray[np.int64]:
        return np.argsort(self._hashes_N, kind="stable")
