"""Made vectors that are as hard to index as the features of a large CLIP model.

    python benchmarks/hard_vectors.py describe
    python benchmarks/hard_vectors.py truth --rows 10000000 --out FILE.npz    exact neighbors of all queries

What makes them hard, and why:

- **Many effective directions.** The covariance has eigenvalues that fall as rank^-0.6, in a rotated basis. Its
  participation ratio (Σλ)²/Σλ² is about 120 of 512. Features of a tiny model have ten effective directions, which
  compact codes and partitions fit far too well.
- **Clusters of very unequal size and width.** Rows belong to 32,768 groups, and groups to 1,024 topics, both of
  Zipf-distributed sizes. Two fifths of the variance are within groups, so that the nearest neighbors of a row are many
  rows of nearly equal cosines.
- **A cone with dominating dimensions.** All rows share a mean as long as their deviation, so that two random rows have
  a cosine of about 0.5. Four coordinates carry 60 % of the mean's energy, as in the original CLIP models.
- **A modality gap.** Text-like queries have another mean and vary along other directions. They correlate weakly with
  one row's deviation (matched cosines of 0.35, others of 0.15), and no row is near to them.

Image-like queries are a row whose deviation is mixed with noise of the same covariance (a cosine of about 0.9 to the
row); their other neighbors belong to the row's group and must be told apart.

Row i is the same for any number of rows: blocks of 65,536 rows are seeded by their number. The queries are the same for
any number of rows, too, because they come from the first block.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

EMBED_DIM = 512
BLOCK_ROWS = 65_536
NUM_TOPICS = 1024
NUM_GROUPS = 32_768
EIGENVALUE_EXPONENT = 0.6
TOPIC_VARIANCE, GROUP_VARIANCE, ROW_VARIANCE = 0.3, 0.3, 0.4
GROUP_WIDTH_SIGMA = 0.35
"""Standard deviation of the logarithm of a group's width."""
MEAN_COSINE = 0.3
"""Cosine between the mean of the images and that of the texts."""
DOMINATING_DIMS, DOMINATING_ENERGY = 4, 0.6
IMAGE_QUERY_CORRELATION = 0.8
TEXT_QUERY_CORRELATION = 0.4
NUM_QUERIES = 200
NUM_NEIGHBORS = 10


@dataclass(frozen=True, slots=True)
class Queries:
    """Unit queries of one kind."""

    vectors_QE: NDArray[np.float32]
    source_Q: NDArray[np.int64]
    """The row that each query was made from."""


class HardVectors:
    """Generator of rows and queries from a seed."""

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        rng = np.random.default_rng([seed, 0])
        variances_E = np.arange(1, EMBED_DIM + 1) ** -EIGENVALUE_EXPONENT
        self._scale_E = np.sqrt(variances_E / variances_E.sum()).astype(np.float32)
        self._text_scale_E = rng.permutation(self._scale_E)
        self._rotation_EE = _random_rotation(rng)
        topics_TE = _normals(rng, NUM_TOPICS) * np.float32(TOPIC_VARIANCE**0.5)
        topic_G = _draw(rng, _zipf(NUM_TOPICS), NUM_GROUPS)
        self._centers_GE = _normals(rng, NUM_GROUPS) * np.float32(GROUP_VARIANCE**0.5) + topics_TE[topic_G]
        self._centers_GE *= self._scale_E
        widths_G = np.exp(GROUP_WIDTH_SIGMA * rng.standard_normal(NUM_GROUPS))
        self._widths_G = (widths_G * (ROW_VARIANCE / np.mean(widths_G**2)) ** 0.5).astype(np.float32)
        self._group_sizes_G = rng.permutation(_zipf(NUM_GROUPS, exponent=0.8))
        self._image_mean_E, self._text_mean_E = _means(rng)

    def block(self, number: int) -> NDArray[np.float16]:
        """Return the rows from `number` × BLOCK_ROWS on, float16 [BLOCK_ROWS, E], of unit length."""
        return _to_unit(self._deviations(number) @ self._rotation_EE + self._image_mean_E).astype(np.float16)

    def blocks(self, num_rows: int) -> Iterator[NDArray[np.float16]]:
        """Yield the first rows in blocks."""
        for start in range(0, num_rows, BLOCK_ROWS):
            yield self.block(start // BLOCK_ROWS)[: num_rows - start]

    def image_queries(self, count: int = NUM_QUERIES) -> Queries:
        """Return queries that are near to a row."""
        return self._queries(1, count, IMAGE_QUERY_CORRELATION, self._scale_E, self._image_mean_E)

    def text_queries(self, count: int = NUM_QUERIES) -> Queries:
        """Return queries from the other side of the modality gap, which are near to no row."""
        return self._queries(2, count, TEXT_QUERY_CORRELATION, self._text_scale_E, self._text_mean_E)

    def _deviations(self, number: int) -> NDArray[np.float32]:
        """Return the deviations of a block's rows from the mean, in the eigenbasis."""
        rng = np.random.default_rng([self._seed, 1, number])
        group_N = _draw(rng, self._group_sizes_G, BLOCK_ROWS)
        deviations_NE = _normals(rng, BLOCK_ROWS)
        deviations_NE *= self._scale_E
        deviations_NE *= self._widths_G[group_N, None]
        deviations_NE += self._centers_GE[group_N]
        return deviations_NE

    def _queries(
        self, kind: int, count: int, correlation: float, scale_E: NDArray[np.float32], mean_E: NDArray[np.float32]
    ) -> Queries:
        rng = np.random.default_rng([self._seed, 2, kind])
        source_Q = rng.choice(BLOCK_ROWS, count, replace=False)
        noise_QE = _normals(rng, count) * scale_E * np.float32((1 - correlation**2) ** 0.5)
        deviations_QE = self._deviations(0)[source_Q] * np.float32(correlation) + noise_QE
        return Queries(_to_unit(deviations_QE @ self._rotation_EE + mean_E), source_Q)


def find_exact(blocks: Iterator[NDArray[np.float16]], queries_QE: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the positions of the nearest rows [Q, NUM_NEIGHBORS], best first."""
    best_QK, scores_QK = (np.empty((len(queries_QE), 0), dtype) for dtype in (np.int64, np.float32))
    start = 0
    for block_NE in blocks:
        scores_QN = queries_QE @ _to_unit(block_NE.astype(np.float32)).T
        near_QK = np.argpartition(scores_QN, -NUM_NEIGHBORS, axis=1)[:, -NUM_NEIGHBORS:]
        best_QK = np.hstack([best_QK, near_QK + start])
        scores_QK = np.hstack([scores_QK, np.take_along_axis(scores_QN, near_QK, axis=1)])
        order_QK = np.argsort(-scores_QK, axis=1, kind="stable")[:, :NUM_NEIGHBORS]
        best_QK, scores_QK = (np.take_along_axis(values, order_QK, axis=1) for values in (best_QK, scores_QK))
        start += len(block_NE)
    return best_QK


def _normals(rng: np.random.Generator, count: int) -> NDArray[np.float32]:
    return rng.standard_normal((count, EMBED_DIM), dtype=np.float32)


def _zipf(count: int, exponent: float = 1.0) -> NDArray[np.float64]:
    weights_N = np.arange(1, count + 1) ** -exponent
    normalized_N: NDArray[np.float64] = weights_N / weights_N.sum()
    return normalized_N


def _draw(rng: np.random.Generator, weights: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    return np.minimum(np.searchsorted(np.cumsum(weights), rng.random(count)), len(weights) - 1)


def _random_rotation(rng: np.random.Generator) -> NDArray[np.float32]:
    orthogonal_EE, upper_EE = np.linalg.qr(rng.standard_normal((EMBED_DIM, EMBED_DIM)))
    return (orthogonal_EE * np.sign(np.diag(upper_EE))).astype(np.float32)


def _means(rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the means of images and texts, of length 1."""
    means = []
    for _ in range(2):
        mean_E = rng.standard_normal(EMBED_DIM)
        large = rng.choice(EMBED_DIM, DOMINATING_DIMS, replace=False)
        energy = (mean_E**2).sum() - (mean_E[large] ** 2).sum()
        mean_E[large] = np.sign(mean_E[large]) * np.sqrt(
            energy * DOMINATING_ENERGY / (1 - DOMINATING_ENERGY) / DOMINATING_DIMS
        )
        means.append(mean_E / np.linalg.norm(mean_E))
    image_mean_E, other_E = means
    other_E -= (other_E @ image_mean_E) * image_mean_E
    text_mean_E = MEAN_COSINE * image_mean_E + (1 - MEAN_COSINE**2) ** 0.5 * other_E / np.linalg.norm(other_E)
    return image_mean_E.astype(np.float32), text_mean_E.astype(np.float32)


def _to_unit(vectors_NE: NDArray[np.float32]) -> NDArray[np.float32]:
    norms_N = np.sqrt(np.einsum("ne,ne->n", vectors_NE, vectors_NE))
    unit_NE: NDArray[np.float32] = vectors_NE / norms_N[:, None]
    return unit_NE


def describe(vectors: HardVectors) -> None:
    """Print the properties that the module's docstring names."""
    start = time.process_time()
    rows_NE = vectors.block(0).astype(np.float32)
    seconds = time.process_time() - start
    variances_E = np.linalg.eigvalsh(np.cov(rows_NE.T))
    mean_E = rows_NE.mean(axis=0)
    pairs_N = np.einsum("ne,ne->n", rows_NE, np.roll(rows_NE, 1, axis=0))
    print(f"one block of {len(rows_NE):,} rows: {seconds:.2f} CPU-seconds")
    print(f"participation ratio of the covariance: {variances_E.sum() ** 2 / (variances_E**2).sum():.0f}")
    print(f"length of the mean: {np.linalg.norm(mean_E):.2f}; cosine of two random rows: {pairs_N.mean():.2f}")
    energies_E = np.sort(mean_E**2)[::-1] / (mean_E @ mean_E)
    print(f"energy of the {DOMINATING_DIMS} largest coordinates of the mean: {energies_E[:DOMINATING_DIMS].sum():.2f}")
    for name, queries in (("image", vectors.image_queries()), ("text", vectors.text_queries())):
        scores_QN = queries.vectors_QE @ rows_NE.T
        source_Q = scores_QN[np.arange(NUM_QUERIES), queries.source_Q]
        tenth_Q, second_Q = (np.partition(scores_QN, -n, axis=1)[:, -n] for n in (10, 2))
        print(
            f"{name}-like queries: cosine to their row {source_Q.mean():.3f}, second {second_Q.mean():.3f}, "
            f"tenth {tenth_Q.mean():.3f}, all {scores_QN.mean():.3f} ± {scores_QN.std():.3f}"
        )


def main() -> None:
    """Describe the vectors, or find the exact neighbors of the queries."""
    parser = argparse.ArgumentParser()
    parser.add_argument("step", choices=["describe", "truth"])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    vectors = HardVectors()
    if args.step == "describe":
        describe(vectors)
        return
    start = time.process_time()
    queries_QE = np.concatenate([vectors.image_queries().vectors_QE, vectors.text_queries().vectors_QE])
    best_QK = find_exact(vectors.blocks(args.rows), queries_QE)
    np.savez(args.out, image_QK=best_QK[:NUM_QUERIES], text_QK=best_QK[NUM_QUERIES:])
    print(f"exact neighbors in {args.rows:,} rows: {time.process_time() - start:.0f} CPU-seconds")


if __name__ == "__main__":
    main()
