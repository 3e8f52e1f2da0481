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
- **A modality gap.** Text-like queries have another mean and vary along other directions, so that no row is near.

Three kinds of queries:

- **image**: a row whose deviation is mixed with noise of the same covariance (a cosine of about 0.9 to the row). Its
  other neighbors belong to the row's group and must be told apart.
- **text**: what the rows of a group have in common, on the other side of the gap (cosines of about 0.35 to these rows,
  0.15 to others, as with CLIP).
- **unmatched**: from the other side, too, and weakly correlated with one row only, as a text that describes none of the
  images. Its ten nearest are the tail of all rows and are scattered over all partitions: the worst case.

Row i is the same for any number of rows: blocks of 65,536 rows are seeded by their number. The queries are the same for
any number of rows, too, because they come from the first block.
"""

import argparse
import time
from collections.abc import Iterator
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
TEXT_QUERY_CORRELATION = 0.5
UNMATCHED_QUERY_CORRELATION = 0.4
QUERY_KINDS = ("image", "text", "unmatched")
NUM_QUERIES = 200
NUM_NEIGHBORS = 10


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

    def queries(self, kind: str) -> NDArray[np.float32]:
        """Return NUM_QUERIES unit queries of a kind (QUERY_KINDS), float32 [Q, E]."""
        rng = np.random.default_rng([self._seed, 2, {"image": 1, "unmatched": 2, "text": 3}[kind]])
        source_Q = rng.choice(BLOCK_ROWS, NUM_QUERIES, replace=False)
        noise_QE = _normals(rng, NUM_QUERIES)
        if kind == "image":
            signal_QE, correlation = self._deviations(0)[source_Q], IMAGE_QUERY_CORRELATION
        elif kind == "text":
            signal_QE, correlation = _to_unit(self._centers_GE[self._groups(0)[source_Q]]), TEXT_QUERY_CORRELATION
        else:
            signal_QE, correlation = self._deviations(0)[source_Q], UNMATCHED_QUERY_CORRELATION
        noise_QE *= self._scale_E if kind == "image" else self._text_scale_E
        mixed_QE = np.float32(correlation) * signal_QE + np.float32((1 - correlation**2) ** 0.5) * noise_QE
        return _to_unit(mixed_QE @ self._rotation_EE + (self._image_mean_E if kind == "image" else self._text_mean_E))

    def _groups(self, number: int) -> NDArray[np.int64]:
        return _draw(self._block_rng(number), self._group_sizes_G, BLOCK_ROWS)

    def _block_rng(self, number: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, 1, number])

    def _deviations(self, number: int) -> NDArray[np.float32]:
        """Return the deviations of a block's rows from the mean, in the eigenbasis."""
        rng = self._block_rng(number)
        group_N = _draw(rng, self._group_sizes_G, BLOCK_ROWS)
        deviations_NE = _normals(rng, BLOCK_ROWS)
        deviations_NE *= self._scale_E
        deviations_NE *= self._widths_G[group_N, None]
        deviations_NE += self._centers_GE[group_N]
        return deviations_NE


class NearestRows:
    """Exact nearest rows of queries, found block by block."""

    def __init__(self, queries_QE: NDArray[np.float32]) -> None:
        self._queries_QE = queries_QE
        self.positions_QK = np.empty((len(queries_QE), 0), np.int64)
        """Best first."""
        self._scores_QK = np.empty((len(queries_QE), 0), np.float32)
        self._num_rows = 0

    def add(self, block_NE: NDArray[np.float16]) -> None:
        """Add the rows that follow those of the calls before."""
        scores_QN = self._queries_QE @ _to_unit(block_NE.astype(np.float32)).T
        columns_N = np.arange(len(block_NE))
        if self._scores_QK.shape[1] == NUM_NEIGHBORS:  # sorting all would take longer than the product
            columns_N = np.flatnonzero((scores_QN > self._scores_QK[:, -1:]).any(axis=0))
        positions_QN = np.broadcast_to(columns_N + self._num_rows, (len(scores_QN), len(columns_N)))
        positions_QN = np.hstack([self.positions_QK, positions_QN])
        scores_QN = np.hstack([self._scores_QK, scores_QN[:, columns_N]])
        order_QK = np.argsort(-scores_QN, axis=1, kind="stable")[:, :NUM_NEIGHBORS]
        self.positions_QK = np.take_along_axis(positions_QN, order_QK, axis=1)
        self._scores_QK = np.take_along_axis(scores_QN, order_QK, axis=1)
        self._num_rows += len(block_NE)

    def save(self, path: Path) -> None:
        """Write the state to an npz file."""
        np.savez(path, positions_QK=self.positions_QK, scores_QK=self._scores_QK, num_rows=self._num_rows)

    def load(self, path: Path) -> None:
        """Continue from a state."""
        state = np.load(path)
        self.positions_QK, self._scores_QK = state["positions_QK"], state["scores_QK"]
        self._num_rows = int(state["num_rows"])


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
    for kind in QUERY_KINDS:
        scores_QN = vectors.queries(kind) @ rows_NE.T
        first, second, tenth = (np.partition(scores_QN, -n, axis=1)[:, -n].mean() for n in (1, 2, 10))
        print(
            f"{kind} queries: cosine to the nearest {first:.3f}, second {second:.3f}, tenth {tenth:.3f}, all "
            f"{scores_QN.mean():.3f} ± {scores_QN.std():.3f}"
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
    nearest = NearestRows(np.concatenate([vectors.queries(kind) for kind in QUERY_KINDS]))
    for block_NE in vectors.blocks(args.rows):
        nearest.add(block_NE)
    nearest.save(args.out)
    print(f"exact neighbors in {args.rows:,} rows: {time.process_time() - start:.0f} CPU-seconds")


if __name__ == "__main__":
    main()
