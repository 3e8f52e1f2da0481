"""Index of the rows that a store already holds, by location and by image digest.

Rows are numbered by their position in the store when it is opened; rows written later follow.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa

from zebra.embed.hash_index import HashIndex, hash_text
from zebra.embed.values import ImageFeatures, StoreRow
from zebra.store import Store

MAX_ROWS_PER_DELETE = 4096
"""Limit of rows that one commit deletes."""


class ExistingRows:
    """The rows of a store by location and by digest, in about 60 bytes each; `find_features` is thread-safe."""

    def __init__(self, store: Store, dataset_name: str) -> None:
        """Index the rows of a store.

        Args:
            dataset_name: Name of the dataset. Its rows that `mark_seen` does not reach are stale.
        """
        self.store = store
        self.dataset_name = dataset_name
        self._lock = Lock()
        self._locations, self._digests = HashIndex(), HashIndex()
        self._stamps = array("Q")
        self._is_unseen = bytearray()
        self._deleted_rows: list[int] = []
        for batch in store.scan(["location", "digest", "stamp", "source"]):
            locations, digests, stamps, sources = (column.to_pylist() for column in batch.columns)
            self._add_to_index(locations, digests, stamps)
            self._is_unseen.extend(source == dataset_name for source in sources)

    def mark_seen(self, location_key: str, stamp: str) -> bool:
        """Record that an image is in the dataset; return whether its row in the store is up to date."""
        row = self._find_row(location_key)
        if row is None:
            return False
        if row < len(self._is_unseen):
            self._is_unseen[row] = False
        return self._stamps[row] == _hash_stamp(stamp)

    def find_features(self, digest: str) -> ImageFeatures | None:
        """Return the features of an image that was embedded before; None if there are none."""
        with self._lock:
            row = self._find_equal(digest)
            if row is None:
                return None
            columns = ["width", "height", "thumbnail", "vector"]
            (values,) = self.store.take_positions([self._current_position(row)], columns).to_pylist()
        vector_E = np.asarray(values["vector"], self.store.metadata.dtype)
        return ImageFeatures(values["width"], values["height"], values["thumbnail"], vector_E)

    def write(self, rows: Sequence[StoreRow], table: pa.Table) -> None:
        """Replace the rows at the same locations, in one commit."""
        with self._lock:
            replaced = [old for row in rows if (old := self._find_row(row.location.key)) is not None]
            self.store.append(self._keep_values(rows, table), self._read_ids(replaced))
            self._deleted_rows = sorted([*self._deleted_rows, *replaced])
            self._add_to_index(
                [row.location.key for row in rows], [row.digest for row in rows], [row.location.stamp for row in rows]
            )

    def count_stale(self) -> int:
        """Count the rows of the dataset whose images are no longer in it."""
        return sum(self._is_unseen)

    def delete_stale(self) -> int:
        """Delete the rows of the dataset whose images are no longer in it; return their number."""
        stale = np.flatnonzero(np.frombuffer(self._is_unseen, bool)).tolist()
        for start in range(0, len(stale), MAX_ROWS_PER_DELETE):
            self._delete_rows(stale[start : start + MAX_ROWS_PER_DELETE])
        return len(stale)

    def _add_to_index(self, location_keys: Sequence[str], digests: Sequence[str], stamps: Sequence[str]) -> None:
        first_row = len(self._stamps)
        self._locations.add(location_keys, first_row)
        self._digests.add(digests, first_row)
        self._stamps.extend(map(_hash_stamp, stamps))

    def _find_row(self, location_key: str) -> int | None:
        return next((row for row in self._locations.find_rows(location_key) if not self._is_deleted(row)), None)

    def _keep_values(self, rows: Sequence[StoreRow], table: pa.Table) -> pa.Table:
        """Return the table with the columns that the data does not provide.

        Their values are those of the same image before: of equal bytes here, else of equal bytes elsewhere, because
        files are moved; else of the same file with other bytes.
        """
        missing = pa.schema([field for field in self.store.extra_columns if field.name not in table.column_names])
        if not len(missing):
            return table
        candidates = [(self._find_row(row.location.key), self._find_equal(row.digest)) for row in rows]
        old_rows = sorted({old for pair in candidates for old in pair if old is not None})
        old_values: dict[int | None, dict[str, Any]] = {}
        if old_rows:
            positions = [self._current_position(old) for old in old_rows]
            table_of_old = self.store.take_positions(positions, ["digest", "path", *missing.names])
            old_values = dict(zip(old_rows, table_of_old.to_pylist(), strict=True))
        sources = [
            _choose_values(row, old_values.get(at_location), old_values.get(elsewhere))
            for row, (at_location, elsewhere) in zip(rows, candidates, strict=True)
        ]
        for field in missing:
            table = table.append_column(field, pa.array([source.get(field.name) for source in sources], field.type))
        return table

    def _find_equal(self, digest: str) -> int | None:
        return next((row for row in self._digests.find_rows(digest) if not self._is_deleted(row)), None)

    def _read_ids(self, rows: Sequence[int]) -> list[str]:
        if not rows:
            return []
        table = self.store.take_positions([self._current_position(row) for row in rows], ["id"])
        ids: list[str] = table["id"].to_pylist()
        return ids

    def _delete_rows(self, rows: Sequence[int]) -> None:
        if not rows:
            return
        self.store.delete(self._read_ids(rows))
        self._deleted_rows = sorted([*self._deleted_rows, *rows])

    def _is_deleted(self, row: int) -> bool:
        index = bisect_left(self._deleted_rows, row)
        return index < len(self._deleted_rows) and self._deleted_rows[index] == row

    def _current_position(self, row: int) -> int:
        """Return the position of a row in the store after deletions."""
        return row - bisect_right(self._deleted_rows, row)


def _hash_stamp(stamp: str) -> int:
    return int.from_bytes(hash_text(stamp, num_bytes=8), "big")


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
