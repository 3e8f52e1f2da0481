"""Sorted 64-bit values that can be added to: a few arrays, merged as they grow."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

MERGE_RATIO = 4
"""Each array is at least this many times as long as the next: there are few, and values are merged rarely."""


class SortedValues:
    """A multiset of unsigned 64-bit values, in 8 bytes each; up to twice that while arrays are merged."""

    def __init__(self, values_N: NDArray[np.uint64] | None = None) -> None:
        """Start with values; the array is sorted in place."""
        self._arrays: list[NDArray[np.uint64]] = []
        if values_N is not None and len(values_N):
            values_N.sort()
            self._arrays.append(values_N)

    def __len__(self) -> int:
        return sum(map(len, self._arrays))

    def add(self, values_N: NDArray[np.uint64]) -> None:
        """Add values; the cost per value grows with the logarithm of their number."""
        new_N = np.sort(values_N)
        while self._arrays and len(self._arrays[-1]) < MERGE_RATIO * len(new_N):
            new_N = np.concatenate([self._arrays.pop(), new_N])
            new_N.sort()
        if len(new_N):
            self._arrays.append(new_N)

    def contains(self, values_Q: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Return whether each value is a member."""
        is_member_Q = np.zeros(len(values_Q), bool)
        for array in self._arrays:
            is_member_Q |= array.take(np.searchsorted(array, values_Q), mode="clip") == values_Q
        return is_member_Q

    def count_below(self, values_Q: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Count the members that are less than each value."""
        count_Q = np.zeros(len(values_Q), np.int64)
        for array in self._arrays:
            count_Q += np.searchsorted(array, values_Q)
        return count_Q

    def iter_between(self, low: int, high: int) -> Iterator[int]:
        """Yield the members of a closed interval, in order of addition: as `find_between`, faster for a single one."""
        for array in self._arrays:
            index = int(array.searchsorted(np.uint64(low)))
            while index < len(array) and (value := int(array[index])) <= high:
                yield value
                index += 1

    def find_between(
        self, low_Q: NDArray[np.uint64], high_Q: NDArray[np.uint64]
    ) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
        """Find the members of each closed interval.

        Returns:
            Index of the interval and member, for each of M members; sorted by both.
        """
        index_parts, value_parts = [np.empty(0, np.int64)], [np.empty(0, np.uint64)]
        for array in self._arrays:
            start_Q = np.searchsorted(array, low_Q)
            count_Q = np.searchsorted(array, high_Q, "right") - start_Q
            index_M = np.repeat(np.arange(len(low_Q)), count_Q)
            first_M = np.repeat(start_Q - np.cumsum(count_Q) + count_Q, count_Q)
            index_parts.append(index_M)
            value_parts.append(array[first_M + np.arange(len(index_M))])
        index_M, value_M = np.concatenate(index_parts), np.concatenate(value_parts)
        order_M = np.lexsort((value_M, index_M))
        return index_M[order_M], value_M[order_M]
