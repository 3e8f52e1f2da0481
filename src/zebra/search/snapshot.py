"""One version of a store as far as searches have read it; what was added since is read on top of it."""

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from zebra.errors import ConfigError
from zebra.search.arrow_rows import read_unit_vectors, rows_to_python
from zebra.search.conditions import Condition
from zebra.search.flat_index import FlatIndex
from zebra.search.id_index import IdIndex
from zebra.search.pagination import RankedRows
from zebra.store import Store
from zebra.store.index_metadata import IndexMetadata, read_index_metadata

MAX_CACHED_MASKS = 16
"""Filters whose answers are remembered, in a byte for each row."""


class StoreSnapshot:
    """Rows that stay as they are while others write.

    What is read stays in memory: the vectors when `exact` is first asked for, the ids when a row is first looked up,
    and a column when it is first filtered by. Several threads may ask at once.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.version = store.version
        self.schema = store.schema
        self._num_rows = len(store)
        self._flat_index: FlatIndex | None = None
        self._id_index: IdIndex | None = None
        self._column_cache: dict[str, pa.ChunkedArray] = {}
        self._mask_cache: dict[str, NDArray[np.bool_]] = {}
        self._lock = threading.RLock()
        self.num_indexed: int | None = None
        """Rows that the index holds; None before `index` was asked for, and without one."""
        self._index_metadata: IndexMetadata | None = None
        self._has_read_index = False

    def __len__(self) -> int:
        return self._num_rows

    @property
    def flat_index(self) -> FlatIndex:
        """All vectors."""
        with self._lock:
            if self._flat_index is None:
                self._flat_index = FlatIndex.from_vectors(self.store.read_vectors()[1])
            return self._flat_index

    def latest(self) -> "StoreSnapshot":
        """Return a snapshot of the store as it is now: this one, if nothing was committed since.

        What this one has read is not read again if rows were only added; else everything is, when it is asked for.
        """
        last = self.store.last_commit
        if last is None or last.version == self.version:
            return self
        store = Store.open(self.store.path)
        last = store.last_commit
        if (
            last is None or last.version != store.version
        ):  # a commit is being made: the next search asks again
            return self
        new = StoreSnapshot(store)
        if self.version < last.last_rewrite_version or len(new) < len(self):
            if self._flat_index is not None:
                new._flat_index = new.flat_index
            return new
        first = len(self)
        if self._flat_index is not None:
            new._flat_index = (
                self._flat_index
                if len(new) == first
                else self._flat_index.with_vectors(store.read_vectors(first)[1])
            )
        if self._id_index is not None:
            new._id_index = self._id_index.with_batches(batch["id"] for batch in store.scan(["id"], first))
        for name, cells in list(self._column_cache.items()):
            new._column_cache[name] = pa.chunked_array(
                [*cells.chunks, *_read_column(store, name, first).chunks], cells.type
            )
        return new

    @property
    def index_metadata(self) -> IndexMetadata | None:
        """The index of the store, as it was measured; None without one."""
        with self._lock:
            if not self._has_read_index:
                self.num_indexed = self.store.num_indexed()
                self._index_metadata = read_index_metadata(self.store.path) if self.num_indexed else None
                self._has_read_index = True
            return self._index_metadata

    def search_exact(
        self, query_E: NDArray[np.float32], k: int, mask_N: NDArray[np.bool_] | None
    ) -> RankedRows:
        """Find the best rows of a query among those that are allowed, without missing one."""
        (places_M,), (scores_M,) = self.flat_index.search(query_E[None], k, mask_N)

        def read_rows(numbers: Sequence[int], columns: Sequence[str]) -> list[dict[str, Any]]:
            return self.read_rows(places_M[list(numbers)].tolist(), columns)

        return RankedRows(scores_M, lambda: self.flat_index.unit_vectors(places_M), read_rows)

    def read_rows(self, positions: Sequence[int], columns: Sequence[str]) -> list[dict[str, Any]]:
        """Read some columns of the rows at some positions."""
        return rows_to_python(self.store.take_positions(positions, columns)) if positions else []

    def filter_mask(self, filter_text: str, condition: Condition) -> NDArray[np.bool_]:
        """Return which rows a filter lets through; `filter_text` is what it is remembered by."""
        with self._lock:
            if filter_text not in self._mask_cache:
                for name in condition.columns - self._column_cache.keys():
                    self._column_cache[name] = _read_column(self.store, name)
                table = pa.table({name: self._column_cache[name] for name in condition.columns})
                if len(self._mask_cache) == MAX_CACHED_MASKS:
                    self._mask_cache.pop(next(iter(self._mask_cache)))
                self._mask_cache[filter_text] = condition.mask(table).to_numpy(zero_copy_only=False)
            return self._mask_cache[filter_text]

    def read_row(self, id: str, columns: Sequence[str]) -> dict[str, Any] | None:
        """Read some columns of the row with an id; None if there is none."""
        found = self._find_position(id)
        return None if found is None else self.read_rows([found], columns)[0]

    def read_vectors(self, ids: Sequence[str]) -> NDArray[np.float32]:
        """Return the vectors of some rows, float32 [N, E], of unit length.

        Raises:
            ConfigError: An id is not there.
        """
        places = []
        for id in ids:
            found = self._find_position(id)
            if found is None:
                raise ConfigError(f"there is no row {id!r} in {self.store.path}; it may have been deleted")
            places.append(found)
        if not places:
            return np.empty((0, self.store.metadata.embed_dim), np.float32)
        return read_unit_vectors(self.store.take_positions(places, ["vector"]))

    def _find_position(self, id: str) -> int | None:
        with self._lock:
            if self._id_index is None:
                self._id_index = IdIndex.from_batches(batch["id"] for batch in self.store.scan(["id"]))
            candidates = self._id_index.candidate_positions(id)
        for place in candidates:
            if self.read_rows([place], ["id"])[0]["id"] == id:
                return place
        return None


def _read_column(store: Store, name: str, offset: int = 0) -> pa.ChunkedArray:
    batches = [batch[name] for batch in store.scan([name], offset)]
    return pa.chunked_array(batches, store.schema.field(name).type)
