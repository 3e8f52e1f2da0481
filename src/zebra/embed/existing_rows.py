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

from zebra.embed.hash_index import Keys
from zebra.embed.values import Look, Row
from zebra.store import Store

AT_ONCE = 4096
"""Rows that are deleted in one commit."""


class Known:
    """The rows of a store by place and by content, in about 60 bytes each; `look` may be asked by any thread."""

    def __init__(self, store: Store, data: str) -> None:
        """Read what is there.

        Args:
            data: Name of the data set; its rows that are not visited have vanished from it.
        """
        self.store = store
        self._lock = Lock()
        self._locations, self._digests = Keys(), Keys()
        self._stamps = array("Q")
        self._unvisited = bytearray()
        self._deleted: list[int] = []
        for batch in store.scan(["location", "digest", "stamp", "source"]):
            locations, digests, stamps, sources = (column.to_pylist() for column in batch.columns)
            self._index(locations, digests, stamps)
            self._unvisited.extend(source == data for source in sources)

    def visit(self, location: str, stamp: str) -> bool:
        """Take note that a picture is in the data; return whether the store holds it as it is now."""
        row = self._at(location)
        if row is None:
            return False
        if row < len(self._unvisited):
            self._unvisited[row] = False
        return self._stamps[row] == _short(stamp)

    def look(self, digest: str) -> Look | None:
        """Return the look of bytes that were embedded before; None if they were not."""
        with self._lock:
            row = next((row for row in self._digests.rows(digest) if not self._is_deleted(row)), None)
            if row is None:
                return None
            columns = ["width", "height", "thumbnail", "vector"]
            (found,) = self.store.at([self._position(row)], columns).to_pylist()
        vector_E = np.asarray(found["vector"], self.store.facts.dtype)
        return Look(found["width"], found["height"], found["thumbnail"], vector_E)

    def write(self, rows: Sequence[Row], table: pa.Table) -> None:
        """Commit rows behind all others; those they replace, at the same locations, are deleted before.

        Who is stopped between the two commits finds these pictures missing, and embeds them the next time.
        """
        with self._lock:
            self._delete([old for row in rows if (old := self._at(row.spot.location)) is not None])
            self.store.append(table)
            self._index(
                [row.spot.location for row in rows],
                [row.digest for row in rows],
                [row.spot.stamp for row in rows],
            )

    def vanished(self) -> int:
        """Count the rows of the data set that were not visited."""
        return sum(self._unvisited)

    def prune(self) -> int:
        """Delete the rows of the data set that were not visited; return how many."""
        vanished = np.flatnonzero(np.frombuffer(self._unvisited, bool)).tolist()
        for first in range(0, len(vanished), AT_ONCE):
            self._delete(vanished[first : first + AT_ONCE])
        return len(vanished)

    def _index(self, locations: Sequence[str], digests: Sequence[str], stamps: Sequence[str]) -> None:
        first = len(self._stamps)
        self._locations.add(locations, first)
        self._digests.add(digests, first)
        self._stamps.extend(map(_short, stamps))

    def _at(self, location: str) -> int | None:
        return next((row for row in self._locations.rows(location) if not self._is_deleted(row)), None)

    def _delete(self, rows: Sequence[int]) -> None:
        if not rows:
            return
        found = self.store.at([self._position(row) for row in rows], ["id"])
        self.store.delete(found["id"].to_pylist())
        self._deleted = sorted([*self._deleted, *rows])

    def _is_deleted(self, row: int) -> bool:
        place = bisect_left(self._deleted, row)
        return place < len(self._deleted) and self._deleted[place] == row

    def _position(self, row: int) -> int:
        """Return where a row stands now."""
        return row - bisect_right(self._deleted, row)


def _short(stamp: str) -> int:
    return int.from_bytes(blake2b(stamp.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "big")
