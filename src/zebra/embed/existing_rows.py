"""Index of the rows that a store already holds, by location and by image digest.

Rows are numbered by their position in the store when it is opened; rows written later follow. A row takes 8 bytes in
each of two indexes, 4 for its stamp and 1 for whether it was seen: 210 MB for ten million rows, and up to twice as much
while it grows. A replaced row takes 8 more.
"""

from array import array
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from zebra.data.locations import Location
from zebra.embed.row_index import MAX_ROWS, RowIndex, hash_texts
from zebra.embed.values import ImageFeatures, StoreRow
from zebra.errors import StoreError
from zebra.store import Store
from zebra.store.sorted_values import SortedValues

MAX_ROWS_PER_DELETE = 4096
"""Limit of rows that one commit deletes."""
COMMITS_PER_MERGE = 512
"""Commits between two merges of small files. With 2,048 rows each, this is the size of a merged file, so that a row is
rewritten once, and what a commit reads and writes does not grow with the store."""


class ExistingRows:
    """The rows of a store by location and by digest; `find_features` is thread-safe."""

    def __init__(self, store: Store, dataset_name: str) -> None:
        """Index the rows of a store.

        Args:
            dataset_name: Name of the dataset. Its rows that `mark_seen` does not reach are stale.

        Raises:
            StoreError: The store has more rows than the index can hold.
        """
        self.store = store
        self.dataset_name = dataset_name
        self._lock = Lock()
        num_rows = len(store)
        if num_rows >= MAX_ROWS:
            raise StoreError(f"{store.path} has {num_rows:,} rows; zebra embed adds to at most {MAX_ROWS:,}")
        locations_N, digests_N = np.empty(num_rows, np.uint64), np.empty(num_rows, np.uint64)
        self._stamps = array("I", bytes(4 * num_rows))
        self._is_unseen = np.zeros(num_rows, bool)
        start = 0
        for batch in store.scan(["location", "digest", "stamp", "source"]):
            end = start + batch.num_rows
            locations_N[start:end] = hash_texts(batch["location"].to_pylist())
            digests_N[start:end] = hash_texts(batch["digest"].to_pylist())
            np.frombuffer(self._stamps, np.uint32)[start:end] = _hash_stamps(batch["stamp"].to_pylist())
            self._is_unseen[start:end] = pc.equal(batch["source"], dataset_name).fill_null(False)
            start = end
        self._locations, self._digests = RowIndex(locations_N), RowIndex(digests_N)
        self._deleted_rows = SortedValues()
        self._num_commits = 0

    def mark_seen(self, locations: Sequence[Location]) -> list[bool]:
        """Record that images are in the dataset; return whether the row of each in the store is up to date.

        An image that has changed is taken for an unchanged one with a probability of 2⁻³².
        """
        keys = [location.key for location in locations]
        stamp_Q = _hash_stamps([location.stamp for location in locations])
        index_M, row_M = self._find_candidates(self._locations, keys)
        is_current_M = np.frombuffer(self._stamps, np.uint32)[row_M] == stamp_Q[index_M]
        is_current_Q = np.zeros(len(keys), bool)
        is_current_Q[index_M[is_current_M]] = True
        changed = [keys[index] for index in np.unique(index_M[~is_current_Q[index_M]]).tolist()]
        with self._lock:
            changed_rows = [row for row in self._find_rows(self._locations, "location", changed) if row is not None]
        seen_M = np.concatenate([row_M[is_current_M], np.array(changed_rows, np.int64)])
        self._is_unseen[seen_M[seen_M < len(self._is_unseen)]] = False
        return is_current_Q.tolist()

    def find_features(self, digest: str) -> ImageFeatures | None:
        """Return the features of an image that was embedded before; None if there are none."""
        columns = ["digest", "width", "height", "thumbnail", "vector"]
        with self._lock:
            for row in self._digests.iter_rows(digest):
                if self._deleted_rows.contains(np.array([row], np.uint64))[0]:
                    continue
                (values,) = self._take([row], columns).to_pylist()
                if values["digest"] == digest:
                    vector_E = np.asarray(values["vector"], self.store.metadata.dtype)
                    return ImageFeatures(values["width"], values["height"], values["thumbnail"], vector_E)
        return None

    def write(self, rows: Sequence[StoreRow], table: pa.Table) -> None:
        """Replace the rows at the same locations, in one commit; merge files from time to time."""
        with self._lock:
            replaced = self._find_replaced(rows)
            self.store.replace(self._positions(replaced), self._keep_values(rows, table))
            self._deleted_rows.add(np.array(replaced, np.uint64))
            first_row = len(self._stamps)
            self._locations.add(hash_texts(row.location.key for row in rows), first_row)
            self._digests.add(hash_texts(row.digest for row in rows), first_row)
            self._stamps.frombytes(_hash_stamps([row.location.stamp for row in rows]).tobytes())
            self._num_commits += 1
            if self._num_commits % COMMITS_PER_MERGE == 0:
                self.store.compact()

    def count_stale(self) -> int:
        """Count the rows of the dataset whose images are no longer in it."""
        return int(np.count_nonzero(self._is_unseen))

    def delete_stale(self) -> int:
        """Delete the rows of the dataset whose images are no longer in it; return their number."""
        stale = np.flatnonzero(self._is_unseen).tolist()
        for start in range(0, len(stale), MAX_ROWS_PER_DELETE):
            rows = stale[start : start + MAX_ROWS_PER_DELETE]
            self.store.delete_positions(self._positions(rows))
            self._deleted_rows.add(np.array(rows, np.uint64))
        return len(stale)

    def _find_replaced(self, rows: Sequence[StoreRow]) -> list[int]:
        """Return the rows at the locations of new ones."""
        keys = [row.location.key for row in rows]
        return [row for row in self._find_rows(self._locations, "location", keys) if row is not None]

    def _find_rows(self, index: RowIndex, column: str, texts: Sequence[str]) -> list[int | None]:
        """Return the oldest row that has each text in a column; None if there is none."""
        found: list[int | None] = [None] * len(texts)
        index_M, row_M = self._find_candidates(index, texts)
        while len(index_M):
            first_Q = np.unique(index_M, return_index=True)[1]  # the oldest candidate of each text
            first_rows = row_M[first_Q].tolist()
            stored_texts = self._take(first_rows, [column])[column].to_pylist()
            for text_index, row, stored_text in zip(index_M[first_Q].tolist(), first_rows, stored_texts, strict=True):
                if texts[text_index] == stored_text:
                    found[text_index] = row
            is_open_M = np.array([found[text_index] is None for text_index in index_M.tolist()])
            is_open_M[first_Q] = False
            index_M, row_M = index_M[is_open_M], row_M[is_open_M]
        return found

    def _find_candidates(self, index: RowIndex, texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return pairs of text and row, as `RowIndex.find`, without deleted rows."""
        index_M, row_M = index.find(texts)
        exists_M = ~self._deleted_rows.contains(row_M)
        return index_M[exists_M], row_M[exists_M].astype(np.int64)

    def _keep_values(self, rows: Sequence[StoreRow], table: pa.Table) -> pa.Table:
        """Return the table with the columns that the data does not provide.

        Their values are those of the same image before: of equal bytes here, else of equal bytes elsewhere, because
        files are moved; else of the same file with other bytes.
        """
        missing = pa.schema([field for field in self.store.extra_columns if field.name not in table.column_names])
        if not len(missing):
            return table
        at_locations = self._find_rows(self._locations, "location", [row.location.key for row in rows])
        elsewhere = self._find_rows(self._digests, "digest", [row.digest for row in rows])
        old_rows = sorted({old for old in (*at_locations, *elsewhere) if old is not None})
        old_values: dict[int | None, dict[str, Any]] = {}
        if old_rows:
            table_of_old = self._take(old_rows, ["digest", "path", *missing.names])
            old_values = dict(zip(old_rows, table_of_old.to_pylist(), strict=True))
        sources = [
            _choose_values(row, old_values.get(here), old_values.get(there))
            for row, here, there in zip(rows, at_locations, elsewhere, strict=True)
        ]
        for field in missing:
            table = table.append_column(field, pa.array([source.get(field.name) for source in sources], field.type))
        return table

    def _take(self, rows: Sequence[int], columns: Sequence[str]) -> pa.Table:
        """Return columns of rows, in their order."""
        return self.store.take_positions(self._positions(rows), columns)

    def _positions(self, rows: Sequence[int]) -> list[int]:
        """Return the positions of rows in the store after deletions."""
        row_N = np.array(rows, np.uint64)
        positions: list[int] = (row_N.astype(np.int64) - self._deleted_rows.count_below(row_N)).tolist()
        return positions


def _hash_stamps(stamps: Sequence[str]) -> NDArray[np.uint32]:
    return hash_texts(stamps).astype(np.uint32)


def _choose_values(
    row: StoreRow, at_location: Mapping[str, Any] | None, elsewhere: Mapping[str, Any] | None
) -> Mapping[str, Any]:
    """Return the values of the row that an image had before; {} if there is none."""
    if at_location and at_location["digest"] == row.digest:
        return at_location
    is_file = not row.location.key.removeprefix(row.location.path).startswith((":", "/"))
    if not elsewhere and at_location and is_file and at_location["path"] == row.location.path:
        return at_location
    return elsewhere or {}
