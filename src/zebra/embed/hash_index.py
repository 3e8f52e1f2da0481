"""Texts in, the numbers of the rows that carry them out, in 24 bytes each whatever their length."""

from collections.abc import Iterator, Sequence
from hashlib import blake2b

import numpy as np

MIN_MERGE_SIZE = 4096
"""New keys that wait, in a dictionary, until they are sorted in among the others."""


class HashIndex:
    """An index from text to rows; it compares 16 bytes of a hash, which no two texts will ever share."""

    def __init__(self) -> None:
        self._sorted_entries = np.empty(0, _ENTRY_DTYPE)
        self._pending: dict[bytes, list[int]] = {}
        self._num_pending = 0

    def add(self, texts: Sequence[str], first_row: int) -> None:
        """Index texts as the rows from `first_row` on."""
        for row, text in enumerate(texts, first_row):
            self._pending.setdefault(_hash(text), []).append(row)
        self._num_pending += len(texts)
        if self._num_pending > max(MIN_MERGE_SIZE, len(self._sorted_entries) // 8):
            self._merge()

    def find_rows(self, text: str) -> Iterator[int]:
        """Yield the rows that carry a text, the oldest first."""
        key = _hash(text)
        first, second = np.frombuffer(key, np.uint64)
        place = int(np.searchsorted(self._sorted_entries["first"], first))
        while place < len(self._sorted_entries) and self._sorted_entries["first"][place] == first:
            if self._sorted_entries["second"][place] == second:
                yield int(self._sorted_entries["row"][place])
            place += 1
        yield from self._pending.get(key, ())

    def _merge(self) -> None:
        pairs = [(*np.frombuffer(key, np.uint64), row) for key, rows in self._pending.items() for row in rows]
        merged = np.concatenate([self._sorted_entries, np.array(pairs, _ENTRY_DTYPE)])
        self._sorted_entries = merged[np.argsort(merged["first"], kind="stable")]
        self._pending.clear()
        self._num_pending = 0


_ENTRY_DTYPE = np.dtype([("first", np.uint64), ("second", np.uint64), ("row", np.int64)])


def _hash(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).digest()
