"""Probable label errors by confident learning on the labels of neighbors.

Northcutt, Jiang and Chuang (2021), arXiv 1911.00068, §3.1. The probability of a label is its share among the neighbors
of an image, which never include the image itself.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK_ROWS = 16_384


@dataclass(frozen=True, slots=True)
class LabelErrors:
    """Labels that the neighbors of N images suggest."""

    suggested_N: NDArray[np.int64]
    """The suggested label; -1 unless the image's own label is a probable error."""
    own_share_N: NDArray[np.float64]
    """Share of neighbors with the label of the image."""
    suggested_share_N: NDArray[np.float64]
    """Share of neighbors with the suggested label; 0 without one."""

    def ranked(self) -> NDArray[np.int64]:
        """Return the images with a suggested label, surest first: by the difference of the two shares."""
        row_M = np.flatnonzero(self.suggested_N >= 0)
        margin_M = self.suggested_share_N[row_M] - self.own_share_N[row_M]
        return row_M[np.argsort(-margin_M, kind="stable")]


def find_label_errors(label_N: NDArray[np.integer[Any]], index_NK: NDArray[np.int64]) -> LabelErrors:
    """Find labels that the neighbors contradict.

    An image counts for a label if the label's share among its neighbors is at least the mean own share of the images
    with that label. If its strongest such label is another one than its own, its own is a probable error.

    Args:
        label_N: Labels from 0 on.
        index_NK: Neighbors of each image by row; -1 where there are fewer.
    """
    own_share_N = np.concatenate(
        [
            _share(label_N, index_NK[start : start + BLOCK_ROWS], label_N[start : start + BLOCK_ROWS, None])[:, 0]
            for start in range(0, len(label_N), BLOCK_ROWS)
        ]
    )
    threshold_C = np.bincount(label_N, own_share_N) / np.bincount(label_N).clip(min=1)
    suggested_N = np.full(len(label_N), -1, np.int64)
    suggested_share_N = np.zeros(len(label_N))
    for start in range(0, len(label_N), BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        candidate_BK = np.where(index_NK[rows] < 0, -1, label_N[index_NK[rows]])
        share_BK = _share(label_N, index_NK[rows], candidate_BK)
        is_confident_BK = (candidate_BK >= 0) & (share_BK >= threshold_C[candidate_BK])
        best_B = np.where(is_confident_BK, share_BK, -1).argmax(axis=1)
        row_B = np.arange(len(best_B))
        label_B = candidate_BK[row_B, best_B]
        is_error_B = is_confident_BK[row_B, best_B] & (label_B != label_N[rows])
        is_error_B &= share_BK[row_B, best_B] > own_share_N[rows]
        suggested_N[rows] = np.where(is_error_B, label_B, -1)
        suggested_share_N[rows] = np.where(is_error_B, share_BK[row_B, best_B], 0)
    return LabelErrors(suggested_N, own_share_N, suggested_share_N)


def _share(
    label_N: NDArray[np.integer[Any]], index_BK: NDArray[np.int64], candidate_BC: NDArray[np.integer[Any]]
) -> NDArray[np.float64]:
    """Return the share of each candidate label among the neighbors, float64 [B, C]."""
    neighbor_BK = np.where(index_BK < 0, -1, label_N[index_BK])
    num_neighbors_B1 = (index_BK >= 0).sum(axis=1, keepdims=True).clip(min=1)
    counts_BC = sum((candidate_BC == neighbor_BK[:, [column]]).astype(int) for column in range(index_BK.shape[1]))
    share_BC: NDArray[np.float64] = counts_BC / num_neighbors_B1
    return share_BC
