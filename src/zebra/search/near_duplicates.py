"""Groups of rows whose vectors are nearly equal."""

import numpy as np
from numpy.typing import NDArray

from zebra.search.arrow_rows import to_unit_vectors

MAX_SCORES = 8_000_000
"""Cosines computed at once, 32 MB."""
ROUNDING = 1e-4
"""Tolerance for vectors that were rounded to float16."""


def group_near_duplicates(
    vectors_NE: NDArray[np.float16] | NDArray[np.float32], min_cosine: float
) -> list[NDArray[np.int64]]:
    """Return groups of at least two row numbers, largest group first.

    A group is a row with all later rows of at least `min_cosine` to it that are in no group yet, as `dedup` groups the
    hits of a search. The time is quadratic in the number of rows; equal input gives equal groups.
    """
    unit_NE, num_rows = to_unit_vectors(vectors_NE), len(vectors_NE)
    is_grouped_N = np.zeros(num_rows, bool)
    groups: list[NDArray[np.int64]] = []
    start = 0
    while start < num_rows:
        stop = start + max(1, MAX_SCORES // (num_rows - start))
        near_BM = unit_NE[start:stop] @ unit_NE[start:].T >= min_cosine - ROUNDING
        near_BM[:, : stop - start] = np.triu(near_BM[:, : stop - start])
        for index in np.flatnonzero(near_BM.sum(axis=1) > 1):
            if is_grouped_N[start + index]:
                continue
            members = start + np.flatnonzero(near_BM[index] & ~is_grouped_N[start:])
            if len(members) > 1:
                is_grouped_N[members] = True
                groups.append(members)
        start = stop
    groups.sort(key=len, reverse=True)
    return groups
