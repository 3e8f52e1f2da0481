"""Compact index from text to row numbers that returns candidates, 8 bytes per row."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from zebra.store.sorted_values import SortedValues

ROW_BITS = 32
"""Low bits of an entry, which hold the row; the others hold a part of the text's hash."""
MAX_ROWS = 2**ROW_BITS


class RowIndex:
    """Rows by text. Compares 32 bits of hashes, so that what it finds must be confirmed.

    Among ten million rows, another text is found with a probability of 0.2 %.
    """

    def __init__(self, hashes_N: NDArray[np.uint64]) -> None:
        """Index the rows 0 to N − 1 by the hashes of their texts; the array is overwritten."""
        hashes_N >>= np.uint64(ROW_BITS)
        hashes_N <<= np.uint64(ROW_BITS)
        hashes_N |= np.arange(len(hashes_N), dtype=np.uint32)
        self._entries = SortedValues(hashes_N)

    def add(self, hashes_N: NDArray[np.uint64], first_row: int) -> None:
        """Index the rows from `first_row` on by the hashes of their texts."""
        rows_N = np.arange(first_row, first_row + len(hashes_N), dtype=np.uint64)
        self._entries.add(_clear_low_bits(hashes_N) | rows_N)

    def iter_rows(self, text: str) -> Iterator[int]:
        """Yield the rows that may have a text, oldest first."""
        low = int(_clear_low_bits(hash_texts([text]))[0])
        for entry in self._entries.iter_between(low, low | (MAX_ROWS - 1)):
            yield entry & (MAX_ROWS - 1)

    def find(self, texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
        """Find the rows that may have the texts.

        Returns:
            Index of the text and row, for each of M rows; sorted by both.
        """
        low_Q = _clear_low_bits(hash_texts(texts))
        index_M, entry_M = self._entries.find_between(low_Q, low_Q | np.uint64(MAX_ROWS - 1))
        return index_M, entry_M & np.uint64(MAX_ROWS - 1)


def hash_texts(texts: Iterable[str]) -> NDArray[np.uint64]:
    """Return 64-bit hashes [N], which differ between processes: Python's, at a tenth of the cost of BLAKE2."""
    return np.fromiter(map(hash, texts), np.int64).view(np.uint64)


def _clear_low_bits(hashes_N: NDArray[np.uint64]) -> NDArray[np.uint64]:
    cleared_N: NDArray[np.uint64] = hashes_N >> np.uint64(ROW_BITS) << np.uint64(ROW_BITS)
    return cleared_N
