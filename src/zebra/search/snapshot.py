"""Cached view of one version of a store; appended rows are read incrementally."""

import threading
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from zebra.config.memory import available_memory
from zebra.errors import ConfigError
from zebra.search.arrow_rows import read_unit_vectors, rows_to_python
from zebra.search.column_kinds import ColumnSummary, summarize_columns
from zebra.search.conditions import Condition
from zebra.search.flat_index import FlatIndex
from zebra.search.id_index import IdIndex
from zebra.search.pagination import RankedRows
from zebra.search.short_vectors import Shortening
from zebra.store import Store
from zebra.store.index_metadata import IndexMetadata, read_index_metadata

MAX_CACHED_MASKS = 16
"""Number of cached filter masks, of one byte per row each."""


class StoreSnapshot:
    """Rows of one store version, unaffected by later writes.

    Data is cached in memory on first use: the vectors by `flat_index`, the ids by a row lookup, and a column by a
    filter on it. Thread-safe.
    """

    def __init__(self, store: Store, shortening: Shortening | None = None) -> None:
        self.store = store
        self.shortening = shortening
        """How the vectors of `flat_index` are shortened."""
        self.version = store.version
        self.schema = store.schema
        self._num_rows = len(store)
        self._flat_index: FlatIndex | None = None
        self._id_index: IdIndex | None = None
        self._column_cache: dict[str, pa.ChunkedArray] = {}
        self._mask_cache: dict[str, NDArray[np.bool_]] = {}
        self._lock = threading.RLock()
        self.num_indexed: int | None = None
        """Number of rows in the index; None before the first use of `index_metadata`, and without an index."""
        self._index_metadata: IndexMetadata | None = None
        self._has_read_index = False

    def __len__(self) -> int:
        return self._num_rows

    @property
    def flat_index(self) -> FlatIndex:
        """All vectors, loaded on first use.

        Raises:
            ConfigError: They do not fit in memory.
        """
        with self._lock:
            if self._flat_index is None:
                if not self.fits_in_memory:
                    raise self._memory_error()
                self._flat_index = FlatIndex.from_vectors(self._read_all_vectors())
            return self._flat_index

    @property
    def flat_index_bytes(self) -> int:
        """Memory of `flat_index`: vectors, and a float16 copy of float32 vectors."""
        size = self.shortening.size if self.shortening else self.store.metadata.embed_dim
        bytes_per_component = 2 if self.store.metadata.dtype == "float16" else 6
        return len(self) * size * bytes_per_component

    @property
    def fits_in_memory(self) -> bool:
        """Whether `flat_index` is loaded, or fits in the memory that is available now."""
        available = available_memory()
        return self._flat_index is not None or available is None or self.flat_index_bytes <= available

    def _memory_error(self) -> ConfigError:
        path, available = self.store.path, available_memory() or 0
        return ConfigError(
            f"exact search of {path} needs {self.flat_index_bytes / 1e9:.1f} GB of memory for {len(self):,} vectors; "
            f"{available / 1e9:.1f} GB are available. Use an index: zebra search {path} --index, then --method "
            "approximate; or compare shorter vectors with --dimensions"
        )

    def _read_all_vectors(self, offset: int = 0) -> NDArray[Any]:
        return self.shortening.read(self.store, offset) if self.shortening else self.store.read_vectors(offset)[1]

    def latest(self) -> "StoreSnapshot":
        """Return a snapshot of the latest version; this one, if nothing was committed since.

        If rows were only appended, cached data is extended; otherwise it is read again on demand.
        """
        last = self.store.last_commit
        if last is None or last.version == self.version:
            return self
        store = Store.open(self.store.path)
        last = store.last_commit
        if last is None or last.version != store.version:  # a commit is in progress: retry on the next search
            return self
        new = StoreSnapshot(store, self.shortening)
        if self.version < last.last_rewrite_version or len(new) < len(self):
            if self._flat_index is not None and new.fits_in_memory:
                new._flat_index = new.flat_index
            return new
        old_rows = len(self)
        if self._flat_index is not None:
            new._flat_index = (
                self._flat_index
                if len(new) == old_rows
                else self._flat_index.with_vectors(new._read_all_vectors(old_rows))
            )
        if self._id_index is not None:
            new._id_index = self._id_index.with_batches(batch["id"] for batch in store.scan(["id"], old_rows))
        for name, cells in list(self._column_cache.items()):
            new._column_cache[name] = pa.chunked_array(
                [*cells.chunks, *_read_column(store, name, old_rows).chunks], cells.type
            )
        return new

    @property
    def index_metadata(self) -> IndexMetadata | None:
        """Metadata of the store's index; None without an index, or if they describe another one."""
        with self._lock:
            if not self._has_read_index:
                self.num_indexed = self.store.num_indexed()
                metadata = read_index_metadata(self.store.path) if self.num_indexed else None
                is_current = metadata is not None and metadata.index_type == self.store.index_type()
                self._index_metadata = metadata if is_current else None
                self._has_read_index = True
            return self._index_metadata

    def search_exact(self, query_E: NDArray[np.float32], k: int, mask_N: NDArray[np.bool_] | None) -> RankedRows:
        """Search all allowed rows exactly."""
        (positions_M,), (scores_M,) = self.flat_index.search(query_E[None], k, mask_N)

        def read_rows(ranks: Sequence[int], columns: Sequence[str]) -> list[dict[str, Any]]:
            return self.read_rows(positions_M[list(ranks)].tolist(), columns)

        return RankedRows(scores_M, lambda: self.flat_index.unit_vectors(positions_M), read_rows)

    def read_rows(self, positions: Sequence[int], columns: Sequence[str]) -> list[dict[str, Any]]:
        """Read columns of the rows at positions."""
        return rows_to_python(self.store.take_positions(positions, columns)) if positions else []

    def filter_mask(self, filter_text: str, condition: Condition) -> NDArray[np.bool_]:
        """Return the mask of rows that match a condition; it is cached under `filter_text`."""
        with self._lock:
            if filter_text not in self._mask_cache:
                table = pa.table({name: self.column(name) for name in condition.columns})
                if len(self._mask_cache) == MAX_CACHED_MASKS:
                    self._mask_cache.pop(next(iter(self._mask_cache)))
                self._mask_cache[filter_text] = condition.mask(table).to_numpy(zero_copy_only=False)
            return self._mask_cache[filter_text]

    def column(self, name: str) -> pa.ChunkedArray:
        """Return a whole column, and keep it in memory."""
        with self._lock:
            if name not in self._column_cache:
                self._column_cache[name] = _read_column(self.store, name)
            return self._column_cache[name]

    @cached_property
    def column_summaries(self) -> list[ColumnSummary]:
        """The columns that divide the rows."""
        return summarize_columns(self.store)

    def read_row(self, id: str, columns: Sequence[str]) -> dict[str, Any] | None:
        """Read columns of the row with an id; None if there is none."""
        position = self.find_positions([id])[0]
        return None if position is None else self.read_rows([position], columns)[0]

    def read_vectors(self, ids: Sequence[str]) -> NDArray[np.float32]:
        """Return the vectors of rows, float32 [N, E], at unit length.

        Raises:
            ConfigError: An id is not in the store.
        """
        positions = [position for position in self.find_positions(ids) if position is not None]
        if len(positions) < len(ids):
            missing = next(id for id, position in zip(ids, self.find_positions(ids), strict=True) if position is None)
            raise ConfigError(f"there is no row {missing!r} in {self.store.path}; it may have been deleted")
        if not positions:
            return np.empty((0, self.store.metadata.embed_dim), np.float32)
        return read_unit_vectors(self.store.take_positions(positions, ["vector"]))

    def find_positions(self, ids: Sequence[str]) -> list[int | None]:
        """Return the position of the row with each id; None where there is none."""
        with self._lock:
            if self._id_index is None:
                self._id_index = IdIndex.from_batches(batch["id"] for batch in self.store.scan(["id"]))
            candidates = [(id, position) for id in ids for position in self._id_index.candidate_positions(id)]
        rows = self.read_rows([position for _, position in candidates], ["id"])
        found = {id: position for (id, position), row in zip(candidates, rows, strict=True) if row["id"] == id}
        return [found.get(id) for id in ids]


def _read_column(store: Store, name: str, offset: int = 0) -> pa.ChunkedArray:
    batches = [batch[name] for batch in store.scan([name], offset)]
    return pa.chunked_array(batches, store.schema.field(name).type)
