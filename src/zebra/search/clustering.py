"""K-means clusters of vectors, and the choice of their number.

Centers are trained on a sample, so that time and memory hardly grow with the number of vectors. Unit vectors make the
squared Euclidean distance of k-means twice the cosine distance. The number of clusters is chosen by the mean silhouette
(Rousseeuw 1987): the largest number at a peak that reaches MIN_PEAK of the highest. The highest peak itself is often a
split in two, such as drawings and photos, above finer clusters that are real too.
"""

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zebra.errors import ConfigError
from zebra.search.arrow_rows import to_unit_vectors

CANDIDATE_NUMBERS = (2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50)
"""Numbers of clusters that are compared when it is not given."""
SAMPLE_ROWS = 50_000
"""Vectors that the centers are trained on."""
CHOICE_ROWS, SILHOUETTE_ROWS = 10_000, 2_000
"""Vectors of the clusterings that are compared, and those whose silhouettes are averaged."""
MIN_PEAK = 0.6
MIN_ROWS_PER_CLUSTER = 10
"""Vectors per cluster, on average, in a clustering that is compared."""
BLOCK_ROWS = 4096
MIN_DISTANCE = 1e-6
"""Distances below are rounding errors."""
MIN_ROWS_FOR_FENCE = 10
"""A smaller cluster has no outliers."""


@dataclass(frozen=True, slots=True)
class Clustering:
    """N vectors in K clusters; the first is the largest."""

    centers_KE: NDArray[np.float32]
    """Means of the unit vectors of each cluster, at unit length."""
    cluster_N: NDArray[np.int64]
    cosine_N: NDArray[np.float32]
    """Cosine of each vector with the center of its cluster."""

    def __len__(self) -> int:
        return len(self.centers_KE)

    def find_outliers(self) -> NDArray[np.bool_]:
        """Return the vectors that are far from the center of their cluster, bool [N].

        Far is beyond Tukey's fence for the distances in the cluster.
        """
        is_outlier_N = np.zeros(len(self.cluster_N), np.bool_)
        for cluster in range(len(self)):
            row_M = np.flatnonzero(self.cluster_N == cluster)
            if len(row_M) >= MIN_ROWS_FOR_FENCE:
                is_outlier_N[row_M] = is_beyond_fence(1 - self.cosine_N[row_M])
        return is_outlier_N


def is_beyond_fence(distance_N: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    """Return the distances above Tukey's fence: the third quartile plus 1.5 interquartile ranges.

    It is applied to logarithms, because distances are skewed: a few are large without being unusual.
    """
    log_N = np.log(np.maximum(distance_N, MIN_DISTANCE))
    first, third = np.quantile(log_N, (0.25, 0.75))
    is_beyond_N: NDArray[np.bool_] = log_N > third + 1.5 * (third - first)
    return is_beyond_N


def cluster_vectors(
    vectors_NE: NDArray[np.floating[Any]], num_clusters: int | None = None, seed: int = 0
) -> Clustering:
    """Return clusters of vectors.

    Args:
        vectors_NE: At least one vector, of any length and float type.
        num_clusters: Number of clusters; fewer are returned if there are fewer distinct vectors. None chooses it.
        seed: Seed of the sample and of the first centers.

    Raises:
        ConfigError: There are fewer vectors than clusters.
    """
    if num_clusters is not None and num_clusters > len(vectors_NE):
        raise ConfigError(
            f"{num_clusters:,} clusters need as many images; there are {len(vectors_NE):,}. Use a lower --num-clusters"
        )
    rng = np.random.default_rng(seed)
    if num_clusters is None:
        num_clusters = _choose_number(_draw_sample(vectors_NE, CHOICE_ROWS, rng), seed)
    centers_KE, _ = _train_centers(_draw_sample(vectors_NE, max(SAMPLE_ROWS, num_clusters), rng), num_clusters, seed)
    cluster_N, cosine_N = _assign(vectors_NE, centers_KE)
    size_K = np.bincount(cluster_N, minlength=len(centers_KE))
    order_K = np.argsort(-size_K, kind="stable")[: np.count_nonzero(size_K)]
    rank_K = np.empty(len(size_K), np.int64)
    rank_K[order_K] = np.arange(len(order_K))
    return Clustering(centers_KE[order_K], rank_K[cluster_N], cosine_N)


def _draw_sample(vectors_NE: NDArray[np.floating[Any]], max_rows: int, rng: np.random.Generator) -> NDArray[np.float32]:
    if len(vectors_NE) > max_rows:
        vectors_NE = vectors_NE[np.sort(rng.choice(len(vectors_NE), max_rows, replace=False))]
    return to_unit_vectors(vectors_NE)


def _train_centers(
    unit_SE: NDArray[np.float32], num_clusters: int, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return centers at unit length, and the cluster of each vector."""
    from sklearn.cluster import KMeans  # importing takes a second
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct vectors: some clusters stay empty
        kmeans = KMeans(num_clusters, n_init=1, random_state=seed).fit(unit_SE)
    return to_unit_vectors(kmeans.cluster_centers_), kmeans.labels_


def _choose_number(unit_SE: NDArray[np.float32], seed: int) -> int:
    """Return the number of clusters by their silhouettes; 1 for very few or equal vectors."""
    from sklearn.metrics import silhouette_score

    row_S = np.random.default_rng(seed).permutation(len(unit_SE))[:SILHOUETTE_ROWS]
    scores: dict[int, float] = {}
    for number in CANDIDATE_NUMBERS:
        if number * MIN_ROWS_PER_CLUSTER > len(unit_SE):
            break
        cluster_S = _train_centers(unit_SE, number, seed)[1][row_S]
        if not number == len(np.unique(cluster_S)) < len(row_S):  # there are fewer distinct vectors
            break
        scores[number] = float(silhouette_score(unit_SE[row_S], cluster_S, metric="cosine"))
    return find_last_peak(scores) if scores else 1


def find_last_peak(scores: Mapping[int, float]) -> int:
    """Return the largest number at a peak of at least MIN_PEAK of the highest; the last number counts if it is highest.

    Args:
        scores: Numbers of clusters in ascending order, with their scores.
    """
    highest = max(scores.values())
    min_peak = min(highest, MIN_PEAK * highest)  # a score may be negative
    values = [-math.inf, *scores.values(), highest]
    return [
        number
        for number, before, value, after in zip(scores, values, values[1:], values[2:], strict=False)
        if value >= min_peak and before <= value and (value > after or value == highest)
    ][-1]


def _assign(
    vectors_NE: NDArray[np.floating[Any]], centers_KE: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the nearest center of each vector and its cosine."""
    cluster_N, cosine_N = np.empty(len(vectors_NE), np.int64), np.empty(len(vectors_NE), np.float32)
    for start in range(0, len(vectors_NE), BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        cosine_BK = to_unit_vectors(vectors_NE[rows]) @ centers_KE.T
        cluster_N[rows] = cosine_BK.argmax(axis=1)
        cosine_N[rows] = cosine_BK.max(axis=1)
    return cluster_N, cosine_N
