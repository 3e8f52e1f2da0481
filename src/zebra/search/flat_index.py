"""All vectors of a store in memory, and a query, in; the nearest rows, none of them missed, out."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BLOCK = 262_144
"""Rows that are scored together: what a search needs beside the vectors does not grow with the store."""
FEW = 0.25
"""Rows allowed of a block, as a share, below which they are picked out instead of scoring them all."""
RESCORED = 2048
"""Rows that are taken to float64 together."""
NEARLY_UNIT = 0.01
HALF = 2.0**-11
"""Largest relative error of rounding to float16; below its normal numbers the error is 2⁻²⁵ at most."""


@dataclass(frozen=True, slots=True)
class Block:
    """Some rows that follow each other."""

    kept_NE: Tensor
    """As the store has them, float16 or float32."""
    coarse_NE: Tensor
    """float16, of about unit length: the same tensor if it is that."""
    error: float
    """The most that the product of a coarse vector with a unit query differs from the cosine, in exact arithmetic."""


class Exact:
    """Cosine search that misses nothing, in half the memory traffic of float32.

    A row's score is found coarsely first, by a product in float16, which is five times as fast as float32 on a CPU: it
    is bound by memory, accumulates in float32 and rounds its result. Then every row whose true score could be among the
    best is scored in float64 from the stored vector. Equal scores keep the order of the store.

    A store of float32 vectors takes 1.5 times its size, for the float16 copy beside them: scoring them directly would
    take five times as long.

    Instances do not change and can be shared by threads.
    """

    def __init__(self, blocks: Sequence[Block], embed_dim: int) -> None:
        """Use `of`."""
        self.embed_dim = embed_dim
        self._blocks = tuple(blocks)
        self._length = sum(len(block.kept_NE) for block in blocks)
        self._error = max((block.error for block in blocks), default=0.0) + _arithmetic_error(embed_dim)

    @classmethod
    def of(cls, vectors_NE: NDArray[np.float16] | NDArray[np.float32]) -> "Exact":
        """Take vectors of a store, of any length; memory is shared with the array where that is possible."""
        return cls(list(_blocks(torch.from_numpy(vectors_NE))), vectors_NE.shape[1])

    def extended(self, vectors_NE: NDArray[np.float16] | NDArray[np.float32]) -> "Exact":
        """Return one with more rows behind the others; only the last block is copied."""
        full, rest = list(self._blocks), torch.from_numpy(vectors_NE)
        if full and len(full[-1].kept_NE) < BLOCK:
            rest = torch.cat([full.pop().kept_NE, rest])
        return Exact([*full, *_blocks(rest)], self.embed_dim)

    def __len__(self) -> int:
        return self._length

    @property
    def num_bytes(self) -> int:
        """Memory of the vectors."""
        return sum(
            block.kept_NE.nbytes + (0 if block.coarse_NE is block.kept_NE else block.coarse_NE.nbytes)
            for block in self._blocks
        )

    def search(
        self, query_QE: NDArray[np.float32], k: int, allowed_N: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Find the nearest rows of each query.

        Args:
            query_QE: float32, of any length but zero.
            k: How many; there are fewer if fewer are there, or allowed.
            allowed_N: Rows that may be answers; None allows all.

        Returns:
            Positions in the order of the store and cosines, int64 and float64 [Q, K], best first.
        """
        k = min(k, len(self) if allowed_N is None else int(np.count_nonzero(allowed_N)))
        places_QK = np.empty((len(query_QE), k), np.int64)
        scores_QK = np.empty((len(query_QE), k), np.float64)
        for row, query_E in enumerate(query_QE) if k else ():
            exact_E = query_E.astype(np.float64)
            exact_E /= np.linalg.norm(exact_E)
            places_N = self._candidates(exact_E, k, allowed_N)
            scores_N = self._scores(places_N, exact_E)
            best_K = np.lexsort((places_N, -scores_N))[:k]
            places_QK[row], scores_QK[row] = places_N[best_K], scores_N[best_K]
        return places_QK, scores_QK

    def vectors(self, places_N: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the vectors at some positions, float32 [N, E], of unit length."""
        vectors_NE = np.empty((len(places_N), self.embed_dim), np.float32)
        for picked_N, kept_NE in self._at(places_N):
            exact_NE = kept_NE.astype(np.float64)
            vectors_NE[picked_N] = exact_NE / np.maximum(
                np.linalg.norm(exact_NE, axis=1, keepdims=True), 1e-30
            )
        return vectors_NE

    def _candidates(
        self, query_E: NDArray[np.float64], k: int, allowed_N: NDArray[np.bool_] | None
    ) -> NDArray[np.int64]:
        """Return the positions of at least all rows that are among the k best.

        With an error of ε at most, k rows score truly at least c - ε, if c is the k-th best coarse score so far. So a
        row among the best scores truly at least that, and coarsely at least c - 2ε.
        """
        coarse_E = torch.from_numpy(query_E).half()
        best_K = torch.empty(0)
        floor = -math.inf
        found: list[tuple[Tensor, Tensor]] = []
        for first, block in self._numbered():
            places_N, scores_N = _coarse_scores(block.coarse_NE, coarse_E, first, allowed_N)
            best_K = torch.cat([best_K, scores_N.topk(min(k, len(scores_N))).values.float()])
            if len(best_K) >= k:
                best_K = best_K.topk(k).values
                floor = float(best_K[-1]) - 2 * self._error
            # `floor` is rounded to float16 here, to where no score lies between it and what it was
            near_N = (scores_N >= floor).nonzero()[:, 0]
            found.append((near_N + first if places_N is None else places_N[near_N], scores_N[near_N].float()))
        places_N, scores_N = (torch.cat(part) for part in zip(*found, strict=True))
        return places_N[scores_N >= floor].numpy()

    def _scores(self, places_N: NDArray[np.int64], query_E: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return cosines; those of equal vectors are equal to the last bit, as each row is summed for itself."""
        scores_N = np.empty(len(places_N))
        for picked_N, kept_NE in self._at(places_N):
            exact_NE = kept_NE.astype(np.float64)
            lengths_N = np.sqrt((exact_NE * exact_NE).sum(axis=1))
            scores_N[picked_N] = (exact_NE * query_E).sum(axis=1) / np.maximum(lengths_N, 1e-30)
        return scores_N.clip(-1, 1)

    def _at(
        self, places_N: NDArray[np.int64]
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float16] | NDArray[np.float32]]]:
        """Yield which of the places, and their vectors as they are kept, not many at a time."""
        for first, block in self._numbered():
            inside_N = np.flatnonzero((places_N >= first) & (places_N < first + len(block.kept_NE)))
            for start in range(0, len(inside_N), RESCORED):
                picked_N = inside_N[start : start + RESCORED]
                yield picked_N, block.kept_NE[torch.from_numpy(places_N[picked_N] - first)].numpy()

    def _numbered(self) -> Iterator[tuple[int, Block]]:
        """Yield the blocks with the position of their first row."""
        first = 0
        for block in self._blocks:
            yield first, block
            first += len(block.kept_NE)


def _coarse_scores(
    coarse_NE: Tensor, query_E: Tensor, first: int, allowed_N: NDArray[np.bool_] | None
) -> tuple[Tensor | None, Tensor]:
    """Return the positions and scores of a block's rows that are allowed; no positions if it is all of them."""
    if allowed_N is None:
        return None, coarse_NE @ query_E
    inside_N = torch.from_numpy(np.flatnonzero(allowed_N[first : first + len(coarse_NE)]))
    if len(inside_N) < FEW * len(coarse_NE):
        return inside_N + first, coarse_NE[inside_N] @ query_E
    return inside_N + first, (coarse_NE @ query_E)[inside_N]


def _blocks(kept_NE: Tensor) -> Iterator[Block]:
    for first in range(0, len(kept_NE), BLOCK):
        part_NE = kept_NE[first : first + BLOCK]
        lengths_N = torch.cat(
            [torch.linalg.vector_norm(part_NE[rows].float(), dim=1) for rows in _slices(part_NE)]
        )
        deviation = float((lengths_N - 1).abs().max()) + 1e-6  # which is for the arithmetic of the lengths
        if part_NE.dtype == torch.float16 and deviation < NEARLY_UNIT:
            yield Block(part_NE, part_NE, deviation)
            continue
        unit_NE = torch.empty_like(part_NE, dtype=torch.float16)
        for rows in _slices(part_NE):
            unit_NE[rows] = (part_NE[rows].float() / lengths_N[rows, None].clamp(min=1e-30)).half()
        yield Block(part_NE, unit_NE, HALF + math.sqrt(part_NE.shape[1]) * 2.0**-25 + 1e-6)


def _slices(rows_NE: Tensor) -> list[slice]:
    """Cut rows into pieces that stay in a processor's cache as float32."""
    return [slice(start, start + 512) for start in range(0, len(rows_NE), 512)]


def _arithmetic_error(embed_dim: int) -> float:
    """Bound the error of a coarse score against exact arithmetic on the same coarse vector v, |v| ≤ 1.01.

    The query's rounding moves the product by |v| |q - q₁₆| ≤ 1.01 (2⁻¹¹ + √E 2⁻²⁵); products of float16 are exact in
    float32, where E of them are added with a relative error of E 2⁻²⁴ at most, taken twice for good measure; and the
    result, at most 1.02, is rounded to float16.
    """
    return 1.02 * (2 * HALF + math.sqrt(embed_dim) * 2.0**-25 + embed_dim * 2.0**-23) + 2.0**-25
