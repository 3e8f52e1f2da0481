"""All vectors of a store in memory, and a query, in; the nearest rows, none of them missed, out."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BLOCK_ROWS = 262_144
"""Rows that are scored together: what a search needs beside the vectors does not grow with the store."""
MAX_GATHER_FRACTION = 0.25
"""Rows allowed of a block, as a share, below which they are picked out instead of scoring them all."""
RESCORE_BATCH_ROWS = 2048
"""Rows that are taken to float64 together."""
MAX_NORM_DEVIATION = 0.01
FLOAT16_UNIT_ROUNDOFF = 2.0**-11
"""Largest relative error of rounding to float16; below its normal numbers the error is 2⁻²⁵ at most."""


@dataclass(frozen=True, slots=True)
class VectorBlock:
    """Some rows that follow each other."""

    vectors_NE: Tensor
    """As the store has them, float16 or float32."""
    coarse_NE: Tensor
    """float16, of about unit length: the same tensor if it is that."""
    max_error: float
    """The most that the product of a coarse vector with a unit query differs from the cosine, in exact arithmetic."""


class FlatIndex:
    """Cosine search that misses nothing, in half the memory traffic of float32.

    A row's score is found coarsely first, by a product in float16, which is five times as fast as float32 on a CPU: it
    is bound by memory, accumulates in float32 and rounds its result. Then every row whose true score could be among the
    best is scored in float64 from the stored vector. Equal scores keep the order of the store.

    A store of float32 vectors takes 1.5 times its size, for the float16 copy beside them: scoring them directly would
    take five times as long.

    Instances do not change and can be shared by threads.
    """

    def __init__(self, blocks: Sequence[VectorBlock], embed_dim: int) -> None:
        """Use `of`."""
        self.embed_dim = embed_dim
        self._blocks = tuple(blocks)
        self._num_rows = sum(len(block.vectors_NE) for block in blocks)
        self._max_error = max((block.max_error for block in blocks), default=0.0) + _max_arithmetic_error(
            embed_dim
        )

    @classmethod
    def from_vectors(cls, vectors_NE: NDArray[np.float16] | NDArray[np.float32]) -> "FlatIndex":
        """Take vectors of a store, of any length; memory is shared with the array where that is possible."""
        return cls(list(_make_blocks(torch.from_numpy(vectors_NE))), vectors_NE.shape[1])

    def with_vectors(self, vectors_NE: NDArray[np.float16] | NDArray[np.float32]) -> "FlatIndex":
        """Return one with more rows behind the others; only the last block is copied."""
        full, rest = list(self._blocks), torch.from_numpy(vectors_NE)
        if full and len(full[-1].vectors_NE) < BLOCK_ROWS:
            rest = torch.cat([full.pop().vectors_NE, rest])
        return FlatIndex([*full, *_make_blocks(rest)], self.embed_dim)

    def __len__(self) -> int:
        return self._num_rows

    @property
    def num_bytes(self) -> int:
        """Memory of the vectors."""
        return sum(
            block.vectors_NE.nbytes + (0 if block.coarse_NE is block.vectors_NE else block.coarse_NE.nbytes)
            for block in self._blocks
        )

    def search(
        self, queries_QE: NDArray[np.float32], k: int, mask_N: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Find the nearest rows of each query.

        Args:
            queries_QE: float32, of any length but zero.
            k: How many; there are fewer if fewer are there, or allowed.
            mask_N: Rows that may be answers; None allows all.

        Returns:
            Positions in the order of the store and cosines, int64 and float64 [Q, K], best first.
        """
        k = min(k, len(self) if mask_N is None else int(np.count_nonzero(mask_N)))
        places_QK = np.empty((len(queries_QE), k), np.int64)
        scores_QK = np.empty((len(queries_QE), k), np.float64)
        for row, query_E in enumerate(queries_QE) if k else ():
            exact_E = query_E.astype(np.float64)
            exact_E /= np.linalg.norm(exact_E)
            places_N = self._find_candidates(exact_E, k, mask_N)
            scores_N = self._rescore(places_N, exact_E)
            best_K = np.lexsort((places_N, -scores_N))[:k]
            places_QK[row], scores_QK[row] = places_N[best_K], scores_N[best_K]
        return places_QK, scores_QK

    def unit_vectors(self, positions_N: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the vectors at some positions, float32 [N, E], of unit length."""
        vectors_NE = np.empty((len(positions_N), self.embed_dim), np.float32)
        for picked_N, kept_NE in self._iter_vectors_at(positions_N):
            exact_NE = kept_NE.astype(np.float64)
            vectors_NE[picked_N] = exact_NE / np.maximum(
                np.linalg.norm(exact_NE, axis=1, keepdims=True), 1e-30
            )
        return vectors_NE

    def _find_candidates(
        self, query_E: NDArray[np.float64], k: int, mask_N: NDArray[np.bool_] | None
    ) -> NDArray[np.int64]:
        """Return the positions of at least all rows that are among the k best.

        With an error of ε at most, k rows score truly at least c - ε, if c is the k-th best coarse score so far. So a
        row among the best scores truly at least that, and coarsely at least c - 2ε.
        """
        coarse_E = torch.from_numpy(query_E).half()
        best_K = torch.empty(0)
        floor = -math.inf
        found: list[tuple[Tensor, Tensor]] = []
        for first, block in self._iter_blocks():
            places_N, scores_N = _score_coarsely(block.coarse_NE, coarse_E, first, mask_N)
            best_K = torch.cat([best_K, scores_N.topk(min(k, len(scores_N))).values.float()])
            if len(best_K) >= k:
                best_K = best_K.topk(k).values
                floor = float(best_K[-1]) - 2 * self._max_error
            # `floor` is rounded to float16 here, to where no score lies between it and what it was
            near_N = (scores_N >= floor).nonzero()[:, 0]
            found.append((near_N + first if places_N is None else places_N[near_N], scores_N[near_N].float()))
        places_N, scores_N = (torch.cat(part) for part in zip(*found, strict=True))
        return places_N[scores_N >= floor].numpy()

    def _rescore(self, positions_N: NDArray[np.int64], query_E: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return cosines; those of equal vectors are equal to the last bit, as each row is summed for itself."""
        scores_N = np.empty(len(positions_N))
        for picked_N, kept_NE in self._iter_vectors_at(positions_N):
            exact_NE = kept_NE.astype(np.float64)
            lengths_N = np.sqrt((exact_NE * exact_NE).sum(axis=1))
            scores_N[picked_N] = (exact_NE * query_E).sum(axis=1) / np.maximum(lengths_N, 1e-30)
        return scores_N.clip(-1, 1)

    def _iter_vectors_at(
        self, positions_N: NDArray[np.int64]
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float16] | NDArray[np.float32]]]:
        """Yield which of the places, and their vectors as they are kept, not many at a time."""
        for first, block in self._iter_blocks():
            inside_N = np.flatnonzero((positions_N >= first) & (positions_N < first + len(block.vectors_NE)))
            for start in range(0, len(inside_N), RESCORE_BATCH_ROWS):
                picked_N = inside_N[start : start + RESCORE_BATCH_ROWS]
                yield picked_N, block.vectors_NE[torch.from_numpy(positions_N[picked_N] - first)].numpy()

    def _iter_blocks(self) -> Iterator[tuple[int, VectorBlock]]:
        """Yield the blocks with the position of their first row."""
        first = 0
        for block in self._blocks:
            yield first, block
            first += len(block.vectors_NE)


def _score_coarsely(
    coarse_NE: Tensor, query_E: Tensor, offset: int, mask_N: NDArray[np.bool_] | None
) -> tuple[Tensor | None, Tensor]:
    """Return the positions and scores of a block's rows that are allowed; no positions if it is all of them."""
    if mask_N is None:
        return None, coarse_NE @ query_E
    inside_N = torch.from_numpy(np.flatnonzero(mask_N[offset : offset + len(coarse_NE)]))
    if len(inside_N) < MAX_GATHER_FRACTION * len(coarse_NE):
        return inside_N + offset, coarse_NE[inside_N] @ query_E
    return inside_N + offset, (coarse_NE @ query_E)[inside_N]


def _make_blocks(vectors_NE: Tensor) -> Iterator[VectorBlock]:
    for first in range(0, len(vectors_NE), BLOCK_ROWS):
        part_NE = vectors_NE[first : first + BLOCK_ROWS]
        lengths_N = torch.cat(
            [torch.linalg.vector_norm(part_NE[rows].float(), dim=1) for rows in _slices(part_NE)]
        )
        deviation = float((lengths_N - 1).abs().max()) + 1e-6  # which is for the arithmetic of the lengths
        if part_NE.dtype == torch.float16 and deviation < MAX_NORM_DEVIATION:
            yield VectorBlock(part_NE, part_NE, deviation)
            continue
        unit_NE = torch.empty_like(part_NE, dtype=torch.float16)
        for rows in _slices(part_NE):
            unit_NE[rows] = (part_NE[rows].float() / lengths_N[rows, None].clamp(min=1e-30)).half()
        yield VectorBlock(
            part_NE, unit_NE, FLOAT16_UNIT_ROUNDOFF + math.sqrt(part_NE.shape[1]) * 2.0**-25 + 1e-6
        )


def _slices(rows_NE: Tensor) -> list[slice]:
    """Cut rows into pieces that stay in a processor's cache as float32."""
    return [slice(start, start + 512) for start in range(0, len(rows_NE), 512)]


def _max_arithmetic_error(embed_dim: int) -> float:
    """Bound the error of a coarse score against exact arithmetic on the same coarse vector v, |v| ≤ 1.01.

    The query's rounding moves the product by |v| |q - q₁₆| ≤ 1.01 (2⁻¹¹ + √E 2⁻²⁵); products of float16 are exact in
    float32, where E of them are added with a relative error of E 2⁻²⁴ at most, taken twice for good measure; and the
    result, at most 1.02, is rounded to float16.
    """
    return (
        1.02 * (2 * FLOAT16_UNIT_ROUNDOFF + math.sqrt(embed_dim) * 2.0**-25 + embed_dim * 2.0**-23) + 2.0**-25
    )
