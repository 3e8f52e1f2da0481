"""Exact nearest-neighbor search: coarse scores choose rows, float64 ranks them."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zebra.search.arrow_rows import to_unit_vectors

VectorArray = NDArray[np.float16] | NDArray[np.float32]

BLOCK_ROWS = 262_144
"""Rows scored at once, which limits the temporary memory of a search."""
MAX_FLOAT32_BYTES = 2**26
"""Size of all vectors as float32 up to which they are scored so, by NumPy. Importing torch for float16 takes more."""
MAX_GATHER_FRACTION = 0.25
"""Share of allowed rows in a block below which they are gathered before scoring."""
RESCORE_BATCH_ROWS = 2048
"""Rows converted to float64 at once."""
MAX_NORM_DEVIATION = 0.01
"""Deviation from unit length up to which stored float16 vectors are scored without a normalized copy."""
FLOAT16_UNIT_ROUNDOFF = 2.0**-11
"""Maximum relative error of rounding to float16; for subnormal numbers, the absolute error is at most 2⁻²⁵."""


@dataclass(frozen=True, slots=True)
class VectorBlock:
    """Consecutive rows."""

    vectors_NE: VectorArray
    """Stored vectors, float16 or float32."""
    coarse_NE: VectorArray
    """Vectors of about unit length, float32 in small stores and float16 in others; the same array as the stored vectors
    if these qualify."""
    max_error: float
    """Maximum difference between a cosine and the dot product of coarse vector and unit query, without rounding."""


class FlatIndex:
    """Exact cosine search with half the memory traffic of float32.

    First, rows are scored coarsely by a float16 dot product: it is memory-bound, accumulates in float32 and rounds its
    result. Then every row whose exact score could be among the best is scored in float64 from the stored vector. Equal
    scores keep store order.

    float32 vectors take 1.5 times their size, because a float16 copy is kept beside them.

    Only torch has a fast float16 product: NumPy takes five times as long. A store of at most MAX_FLOAT32_BYTES is
    scored in float32 by NumPy instead, so that torch is not imported for it.

    Instances are immutable and can be shared by threads.
    """

    def __init__(self, blocks: Sequence[VectorBlock], embed_dim: int) -> None:
        """Create an index from blocks; use `from_vectors`."""
        self.embed_dim = embed_dim
        self._blocks = tuple(blocks)
        self._num_rows = sum(len(block.vectors_NE) for block in blocks)
        self._max_error = max((block.max_error for block in blocks), default=0.0) + _max_arithmetic_error(embed_dim)

    @classmethod
    def from_vectors(cls, vectors_NE: VectorArray) -> "FlatIndex":
        """Create an index from vectors [N, E] of any length; memory is shared with the array if possible."""
        make_block = _choose_block_maker(vectors_NE.size)
        return cls([make_block(part_NE) for part_NE in _split_blocks(vectors_NE)], vectors_NE.shape[1])

    def with_vectors(self, vectors_NE: VectorArray) -> "FlatIndex":
        """Return an index with more rows appended; only the last block is copied."""
        full_blocks, rest_NE = list(self._blocks), vectors_NE
        make_block = _choose_block_maker((len(self) + len(vectors_NE)) * self.embed_dim)
        if full_blocks and len(full_blocks[-1].vectors_NE) < BLOCK_ROWS:
            rest_NE = np.concatenate([full_blocks.pop().vectors_NE, rest_NE])
        return FlatIndex([*full_blocks, *map(make_block, _split_blocks(rest_NE))], self.embed_dim)

    def __len__(self) -> int:
        return self._num_rows

    @property
    def num_bytes(self) -> int:
        """Memory of the vectors in bytes."""
        return sum(
            block.vectors_NE.nbytes + (0 if block.coarse_NE is block.vectors_NE else block.coarse_NE.nbytes)
            for block in self._blocks
        )

    def search(
        self, queries_QE: NDArray[np.float32], k: int, mask_N: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Find the nearest rows of each query.

        Args:
            queries_QE: float32, of any nonzero length.
            k: Number of rows; fewer are returned if fewer exist or are allowed.
            mask_N: Allowed rows; None allows all.

        Returns:
            Positions in store order and cosines, int64 and float64 [Q, K], best first.
        """
        k = min(k, len(self) if mask_N is None else int(np.count_nonzero(mask_N)))
        positions_QK = np.empty((len(queries_QE), k), np.int64)
        scores_QK = np.empty((len(queries_QE), k), np.float64)
        for row, query_E in enumerate(queries_QE) if k else ():
            exact_E = query_E.astype(np.float64)
            exact_E /= np.linalg.norm(exact_E)
            positions_N = self._find_candidates(exact_E, k, mask_N)
            scores_N = self._rescore(positions_N, exact_E)
            best_K = np.lexsort((positions_N, -scores_N))[:k]
            positions_QK[row], scores_QK[row] = positions_N[best_K], scores_N[best_K]
        return positions_QK, scores_QK

    def unit_vectors(self, positions_N: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the vectors at positions, float32 [N, E], at unit length."""
        vectors_NE = np.empty((len(positions_N), self.embed_dim), np.float32)
        for indices_N, stored_NE in self._iter_vectors_at(positions_N):
            vectors_NE[indices_N] = to_unit_vectors(stored_NE)
        return vectors_NE

    def _find_candidates(
        self, query_E: NDArray[np.float64], k: int, mask_N: NDArray[np.bool_] | None
    ) -> NDArray[np.int64]:
        """Return the positions of a superset of the k best rows.

        Let c be the k-th best coarse score so far, and ε the maximum error. Then k rows have an exact score of at least
        c - ε, so a row among the k best has an exact score of at least c - ε and a coarse score of at least c - 2ε.
        """
        best_K = np.empty(0, np.float32)
        lowest = threshold = -math.inf
        candidates: list[tuple[NDArray[np.int64], NDArray[np.float32]]] = []
        for offset, block in self._iter_blocks():
            positions_N, scores_N = _score_coarsely(block.coarse_NE, query_E, offset, mask_N)
            best_K = np.concatenate([best_K, scores_N[scores_N >= lowest]])
            if len(best_K) >= k:
                best_K = np.partition(best_K, len(best_K) - k)[len(best_K) - k :]
                lowest = float(best_K[0])
                threshold = lowest - 2 * self._max_error
            near_N = np.flatnonzero(scores_N >= threshold)
            candidates.append((near_N + offset if positions_N is None else positions_N[near_N], scores_N[near_N]))
        positions_N, scores_N = (np.concatenate(part) for part in zip(*candidates, strict=True))
        return positions_N[scores_N >= threshold]

    def _rescore(self, positions_N: NDArray[np.int64], query_E: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return exact cosines; equal vectors get bit-identical scores, because each row is summed separately."""
        scores_N = np.empty(len(positions_N))
        for indices_N, stored_NE in self._iter_vectors_at(positions_N):
            exact_NE = stored_NE.astype(np.float64)
            norms_N = np.sqrt((exact_NE * exact_NE).sum(axis=1))
            scores_N[indices_N] = (exact_NE * query_E).sum(axis=1) / np.maximum(norms_N, 1e-30)
        return scores_N.clip(-1, 1)

    def _iter_vectors_at(self, positions_N: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], VectorArray]]:
        """Yield indices into `positions_N` and the stored vectors there, in small batches."""
        for offset, block in self._iter_blocks():
            inside_N = np.flatnonzero((positions_N >= offset) & (positions_N < offset + len(block.vectors_NE)))
            for start in range(0, len(inside_N), RESCORE_BATCH_ROWS):
                indices_N = inside_N[start : start + RESCORE_BATCH_ROWS]
                yield indices_N, block.vectors_NE[positions_N[indices_N] - offset]

    def _iter_blocks(self) -> Iterator[tuple[int, VectorBlock]]:
        """Yield the blocks with the position of their first row."""
        offset = 0
        for block in self._blocks:
            yield offset, block
            offset += len(block.vectors_NE)


def _score_coarsely(
    coarse_NE: VectorArray, query_E: NDArray[np.float64], offset: int, mask_N: NDArray[np.bool_] | None
) -> tuple[NDArray[np.int64] | None, NDArray[np.float32]]:
    """Return positions and float32 scores of the allowed rows of a block; positions are None if all are allowed."""
    if mask_N is None:
        return None, _dot(coarse_NE, query_E)
    inside_N = np.flatnonzero(mask_N[offset : offset + len(coarse_NE)])
    if len(inside_N) < MAX_GATHER_FRACTION * len(coarse_NE):
        return inside_N + offset, _dot(coarse_NE[inside_N], query_E)
    return inside_N + offset, _dot(coarse_NE, query_E)[inside_N]


def _dot(coarse_NE: VectorArray, query_E: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the product of coarse vectors and a query in the type of the vectors, as float32 [N]."""
    if coarse_NE.dtype == np.float32:
        return np.asarray(coarse_NE @ query_E.astype(np.float32), np.float32)
    import torch

    scores_N = torch.from_numpy(coarse_NE) @ torch.from_numpy(query_E).half()
    return np.asarray(scores_N.float().numpy(), np.float32)


def _split_blocks(vectors_NE: VectorArray) -> list[VectorArray]:
    return [vectors_NE[start : start + BLOCK_ROWS] for start in range(0, len(vectors_NE), BLOCK_ROWS)]


def _choose_block_maker(num_values: int) -> Callable[[VectorArray], VectorBlock]:
    return _make_float32_block if 4 * num_values <= MAX_FLOAT32_BYTES else _make_float16_block


def _make_float32_block(part_NE: VectorArray) -> VectorBlock:
    coarse_NE = part_NE.astype(np.float32, copy=False)
    norms_N = np.sqrt(np.einsum("ne,ne->n", coarse_NE, coarse_NE, dtype=np.float64))
    deviation = float(np.abs(norms_N - 1).max()) + 1e-6
    if deviation < MAX_NORM_DEVIATION:
        return VectorBlock(part_NE, coarse_NE, deviation)
    return VectorBlock(part_NE, (coarse_NE / np.maximum(norms_N, 1e-30)[:, None]).astype(np.float32), 1e-6)


def _make_float16_block(part_NE: VectorArray) -> VectorBlock:
    import torch

    stored_NE: Any = torch.from_numpy(part_NE)
    slices = [slice(start, start + 512) for start in range(0, len(part_NE), 512)]  # as float32, fit into the CPU cache
    norms_N = torch.cat([torch.linalg.vector_norm(stored_NE[rows].float(), dim=1) for rows in slices])
    deviation = float((norms_N - 1).abs().max()) + 1e-6  # plus the rounding error of the norms
    if part_NE.dtype == np.float16 and deviation < MAX_NORM_DEVIATION:
        return VectorBlock(part_NE, part_NE, deviation)
    unit_NE = torch.empty_like(stored_NE, dtype=torch.float16)
    for rows in slices:
        unit_NE[rows] = (stored_NE[rows].float() / norms_N[rows, None].clamp(min=1e-30)).half()
    return VectorBlock(part_NE, unit_NE.numpy(), FLOAT16_UNIT_ROUNDOFF + math.sqrt(part_NE.shape[1]) * 2.0**-25 + 1e-6)


def _max_arithmetic_error(embed_dim: int) -> float:
    """Return a bound of the rounding error of a coarse score in float16, for a coarse vector v with |v| ≤ 1.01.

    Rounding the query changes the product by |v| |q - q₁₆| ≤ 1.01 (2⁻¹¹ + √E 2⁻²⁵). Products of float16 are exact in
    float32. Adding E of them has a relative error of at most E 2⁻²⁴, which is doubled for safety. The result, at most
    1.02, is rounded to float16.
    """
    return 1.02 * (2 * FLOAT16_UNIT_ROUNDOFF + math.sqrt(embed_dim) * 2.0**-25 + embed_dim * 2.0**-23) + 2.0**-25
