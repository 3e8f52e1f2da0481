"""Rows of a store that match a filter, with their vectors in memory."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from zebra.errors import ConfigError
from zebra.search.filter_parser import parse_filter
from zebra.search.snapshot import StoreSnapshot
from zebra.store import Store


@dataclass(frozen=True, slots=True)
class Selection:
    """N rows of a store, in its order."""

    rows: pa.Table
    """The requested columns."""
    positions_N: NDArray[np.int64]
    vectors_NE: NDArray[np.float16] | NDArray[np.float32]
    """The stored vectors, of any length."""

    def __len__(self) -> int:
        return len(self.positions_N)


def select_rows(store: Store, where: str, columns: Sequence[str]) -> Selection:
    """Read the rows that match a filter, or all of them if it is empty.

    Args:
        where: A filter (`zebra.search.filter_parser`), or "".
        columns: Columns to read; those that the store does not have are left out.

    Raises:
        ConfigError: The filter is invalid, or no row matches.
    """
    _, vectors_NE = store.read_vectors()
    names = [name for name in columns if name in store.schema.names]
    rows = pa.Table.from_batches(store.scan(names), pa.schema([store.schema.field(name) for name in names]))
    positions_N = np.arange(len(rows))
    if where:
        positions_N = np.flatnonzero(StoreSnapshot(store).filter_mask(where, parse_filter(where, store.schema)))
        rows, vectors_NE = rows.take(pa.array(positions_N)), vectors_NE[positions_N]
    if not len(positions_N):
        reason = f"no image of {store.path} matches --where {where!r}" if where else f"{store.path} has no images"
        raise ConfigError(f"{reason}. {'Use another filter' if where else 'Embed some with zebra embed'}")
    return Selection(rows, positions_N, vectors_NE)
