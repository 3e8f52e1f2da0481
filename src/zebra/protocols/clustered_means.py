"""Means of values in [0, 1] over clusters of samples."""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from zebra.errors import DataError
from zebra.protocols.metrics import Z95, wilson_interval
from zebra.values import Score


def clustered_mean(value_N: NDArray[np.floating], cluster_N: NDArray[np.int64] | None = None) -> Score:
    """Return the mean of values in [0, 1], such as Jaccard indices, of samples in clusters.

    The interval is Wilson's for the number of hits or misses that would have the same variance, with Student's t for
    the number of clusters.

    Args:
        value_N: One value per sample.
        cluster_N: The cluster of each sample; None: each sample is independent.

    Raises:
        DataError: There are no samples.
    """
    n = len(value_N)
    if not n:
        raise DataError("cannot compute a mean over 0 samples: the dataset is empty")
    value = float(value_N.mean())
    clusters_N = np.arange(n) if cluster_N is None else np.unique(cluster_N, return_inverse=True)[1]
    return score_from_residuals(value, np.bincount(clusters_N, weights=value_N - value) / n, n)


def score_from_residuals(value: float, residual_G: NDArray[np.floating], n: int) -> Score:
    """Return the score of a sum of independent contributions, whose deviations from their means are `residual_G`.

    Args:
        value: A mean of values in [0, 1].
        residual_G: The deviation of each cluster's contribution; their sum is 0.
        n: Number of samples.
    """
    num_clusters = len(residual_G)
    variance = float((residual_G**2).sum()) * num_clusters / max(num_clusters - 1, 1)
    spread = value * (1 - value)
    # Equal values, all 0 or all 1, or a single cluster: the variance is unknown, and each cluster counts as one sample.
    effective_n = spread / variance if min(spread, variance) > 1e-12 else float(num_clusters)
    quantile = float(student.ppf(0.975, num_clusters - 1)) if num_clusters > 1 else Z95
    low, high = wilson_interval(value, effective_n, quantile)
    return Score(value, low, high, n)
