"""What a store holds of a data set, and of any picture's bytes: what need not be done again.

Rows are numbered as they stand in the store when it is opened, and those written afterwards behind them.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from hashlib import blake2b
from threading import Lock

import numpy as np
import pyarrow as pa

from zebra.embed.hash_index import HashIndex
from zebra.embed.values import ImageFeatures, StoreRow
from zebra.store import Store

MAX_ROWS_PER_DELETE = 4096
"""Rows that are deleted in one commit."""


class ExistingRows:
    """The rows of a store by place and by content, in about 60 bytes each; `look` may be asked by any thread."""

    def __init__(self, store: Store, dataset_name: str) -> None:
        """Read what is there.

        Args:
            dataset_name: Name of the data set; its rows that are not visited have vanished from it.
        """
        self.store = store
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
        """Take note that a picture is in the data; return whether the store holds it as it is now."""
        row = self._find_row(location_key)
        if row is None:
            return False
        if row < len(self._is_unseen):
            self._is_unseen[row] = False
        return self._stamps[row] == _hash_stamp(stamp)

    def find_features(self, digest: str) -> ImageFeatures | None:
        """Return the look of bytes that were embedded before; None if they were not."""
        with self._lock:
            row = next((row for row in self._digests.find_rows(digest) if not self._is_deleted(row)), None)
            if row is None:
                return None
            columns = ["width", "height", "thumbnail", "vector"]
            (found,) = self.store.take_positions([self._current_position(row)], columns).to_pylist()
        vector_E = np.asarray(found["vector"], self.store.metadata.dtype)
        return ImageFeatures(found["width"], found["height"], found["thumbnail"], vector_E)

    def write(self, rows: Sequence[StoreRow], table: pa.Table) -> None:
        """Commit rows behind all others; those they replace, at the same locations, are deleted before.

        Who is stopped between the two commits finds these pictures missing, and embeds them the next time.
        """
        with self._lock:
            self._delete_rows([old for row in rows if (old := self._find_row(row.location.key)) is not None])
            self.store.append(table)
            self._add_to_index(
                [row.location.key for row in rows],
                [row.digest for row in rows],
                [row.location.stamp for row in rows],
            )

    def count_stale(self) -> int:
        """Count the rows of the data set that were not visited."""
        return sum(self._is_unseen)

    def delete_stale(self) -> int:
        """Delete the rows of the data set that were not visited; return how many."""
        vanished = np.flatnonzero(np.frombuffer(self._is_unseen, bool)).tolist()
        for first in range(0, len(vanished), MAX_ROWS_PER_DELETE):
            self._delete_rows(vanished[first : first + MAX_ROWS_PER_DELETE])
        return len(vanished)

    def _add_to_index(
        self, location_keys: Sequence[str], digests: Sequence[str], stamps: Sequence[str]
    ) -> None:
        first = len(self._stamps)
        self._locations.add(location_keys, first)
        self._digests.add(digests, first)
        self._stamps.extend(map(_hash_stamp, stamps))

    def _find_row(self, location_key: str) -> int | None:
        return next(
            (row for row in self._locations.find_rows(location_key) if not self._is_deleted(row)), None
        )

    def _delete_rows(self, rows: Sequence[int]) -> None:
        if not rows:
            return
        found = self.store.take_positions([self._current_position(row) for row in rows], ["id"])
        self.store.delete(found["id"].to_pylist())
        self._deleted_rows = sorted([*self._deleted_rows, *rows])

    def _is_deleted(self, row: int) -> bool:
        place = bisect_left(self._deleted_rows, row)
        return place < len(self._deleted_rows) and self._deleted_rows[place] == row

    def _current_position(self, row: int) -> int:
        """Return where a row stands now."""
        return row - bisect_right(self._deleted_rows, row)


def _hash_stamp(stamp: str) -> int:
    return int.from_bytes(blake2b(stamp.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "big")
