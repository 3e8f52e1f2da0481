"""Compact index from text to row numbers, 24 bytes per row."""

from collections.abc import Iterator, Sequence
from hashlib import blake2b

import numpy as np

MIN_MERGE_SIZE = 4096
"""Number of pending entries, kept in a dictionary, before they are merged into the sorted array."""


class HashIndex:
    """An index from text to rows that compares 128-bit hashes; a collision is practically impossible."""

    def __init__(self) -> None:
        self._sorted_entries = np.empty(0, _ENTRY_DTYPE)
        self._pending: dict[bytes, list[int]] = {}
        self._num_pending = 0

    def add(self, texts: Sequence[str], first_row: int) -> None:
        """Add texts for the rows from `first_row` on."""
        for row, text in enumerate(texts, first_row):
            self._pending.setdefault(hash_text(text), []).append(row)
        self._num_pending += len(texts)
        if self._num_pending > max(MIN_MERGE_SIZE, len(self._sorted_entries) // 8):
            self._merge()

    def find_rows(self, text: str) -> Iterator[int]:
        """Yield the rows of a text, oldest first."""
        key = hash_text(text)
        first, second = np.frombuffer(key, np.uint64)
        index = int(np.searchsorted(self._sorted_entries["first"], first))
        while index < len(self._sorted_entries) and self._sorted_entries["first"][index] == first:
            if self._sorted_entries["second"][index] == second:
                yield int(self._sorted_entries["row"][index])
            index += 1
        yield from self._pending.get(key, ())

    def _merge(self) -> None:
        entries = [(*np.frombuffer(key, np.uint64), row) for key, rows in self._pending.items() for row in rows]
        merged = np.concatenate([self._sorted_entries, np.array(entries, _ENTRY_DTYPE)])
        self._sorted_entries = merged[np.argsort(merged["first"], kind="stable")]
        self._pending.clear()
        self._num_pending = 0


_ENTRY_DTYPE = np.dtype([("first", np.uint64), ("second", np.uint64), ("row", np.int64)])


def hash_text(text: str, num_bytes: int = 16) -> bytes:
    """Return a hash of a text, which may be a path that is not valid Unicode."""
    return blake2b(text.encode("utf-8", "surrogateescape"), digest_size=num_bytes).digest()
