"""Nearest neighbors of all vectors, and how far each vector is from them.

Above MAX_REFERENCES vectors, neighbors are looked for among a random sample, which is about as good for finding
outliers (Sugiyama and Borgwardt 2013). The cost then grows with N, not N².
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from zebra.search.arrow_rows import to_unit_vectors

MAX_REFERENCES = 50_000
EXTRA_NEIGHBORS = 40
"""Neighbors that are looked up in addition, to take the place of near copies."""
NEAR_COPY_FRACTION = 0.5
"""Distance of near copies, as a fraction of the median distance of a vector to its nearest neighbor."""
ROUNDING_ERROR = 1e-6
"""Distance of equal vectors."""
BLOCK_ROWS = 512


@dataclass(frozen=True, slots=True)
class Neighbors:
    """The neighbors of N vectors, nearest first; near copies are left out."""

    index_NK: NDArray[np.int64]
    """Rows of the neighbors; -1 where there are fewer."""
    distance_NK: NDArray[np.float32]
    """1 − cosine; NaN where there are fewer."""
    num_references: int
    """Vectors among which neighbors were looked for."""
    max_copy_distance: float
    """Distance up to which another vector is a near copy."""

    def mean_distances(self) -> NDArray[np.float32]:
        """Return the mean distance to the neighbors, float32 [N]."""
        mean_N: NDArray[np.float32] = np.nanmean(self.distance_NK, axis=1)
        return mean_N


def find_neighbors(
    vectors_NE: NDArray[np.floating[Any]],
    num_neighbors: int,
    seed: int = 0,
    callback: Callable[[int, int], None] = lambda _done, _total: None,
) -> Neighbors:
    """Find the nearest vectors of each vector that are no near copies of it.

    A vector that only has near copies keeps the farthest of those that were looked at.

    Args:
        vectors_NE: At least two vectors, of any length and float type.
        num_neighbors: Neighbors per vector; with fewer vectors, all others.
        seed: Seed of the sample.
        callback: Called with the number of vectors done and their total.
    """
    n = len(vectors_NE)
    rng = np.random.default_rng(seed)
    row_R = np.arange(n) if n <= MAX_REFERENCES else np.sort(rng.choice(n, MAX_REFERENCES, replace=False))
    references_RE = torch.from_numpy(to_unit_vectors(vectors_NE[row_R]))
    num_found = min(num_neighbors + EXTRA_NEIGHBORS, len(row_R) - 1)
    num_neighbors = min(num_neighbors, num_found)

    def search(row_B: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        cosine_BR = torch.from_numpy(to_unit_vectors(vectors_NE[row_B])) @ references_RE.T
        own_B = np.searchsorted(row_R, row_B).clip(max=len(row_R) - 1)
        is_reference_B = row_R[own_B] == row_B
        cosine_BR[torch.from_numpy(np.flatnonzero(is_reference_B)), torch.from_numpy(own_B[is_reference_B])] = -2
        nearest = cosine_BR.topk(num_found)
        return row_R[nearest.indices.numpy()], (1 - nearest.values.numpy()).clip(min=0)

    _, distance_SM = search(np.sort(rng.choice(n, min(n, BLOCK_ROWS), replace=False)))
    max_copy_distance = max(NEAR_COPY_FRACTION * float(np.median(distance_SM[:, 0])), ROUNDING_ERROR)
    index_NK, distance_NK = np.empty((n, num_neighbors), np.int64), np.empty((n, num_neighbors), np.float32)
    for start in range(0, n, BLOCK_ROWS):
        callback(start, n)
        row_B = np.arange(start, min(start + BLOCK_ROWS, n))
        index_NK[row_B], distance_NK[row_B] = _leave_out_copies(*search(row_B), num_neighbors, max_copy_distance)
    callback(n, n)
    return Neighbors(index_NK, distance_NK, len(row_R), max_copy_distance)


def _leave_out_copies(
    index_BM: NDArray[np.int64], distance_BM: NDArray[np.float32], num_neighbors: int, max_copy_distance: float
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the first neighbors beyond a distance; the others move up, since the distances ascend."""
    num_copies_B1 = (distance_BM <= max_copy_distance).sum(axis=1, keepdims=True)
    num_copies_B1 = num_copies_B1.clip(max=distance_BM.shape[1] - 1)
    column_BK = num_copies_B1 + np.arange(num_neighbors)
    is_missing_BK = column_BK >= distance_BM.shape[1]
    column_BK = column_BK.clip(max=distance_BM.shape[1] - 1)
    index_BK = np.where(is_missing_BK, -1, np.take_along_axis(index_BM, column_BK, axis=1))
    distance_BK = np.where(is_missing_BK, np.float32(np.nan), np.take_along_axis(distance_BM, column_BK, axis=1))
    return index_BK, distance_BK
