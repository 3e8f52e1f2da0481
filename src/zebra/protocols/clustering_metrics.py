"""Agreement of clusters with classes: V-measure, adjusted Rand index and accuracy."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from zebra.errors import UnsuitableDataset
from zebra.protocols.metrics import Z95, proportion
from zebra.values import Score


def score_clusters(
    label_N: NDArray[np.int64], cluster_N: NDArray[np.int64], rerun_SN: NDArray[np.int64]
) -> dict[str, Score]:
    """Return v_measure, ari and accuracy: the scores of the clusters, and none of the further runs.

    V-measure (Rosenberg and Hirschberg 2007) is the harmonic mean of homogeneity and completeness, which is normalized
    mutual information with the arithmetic mean. ari is the adjusted Rand index (Hubert and Arabie 1985). accuracy gives
    each cluster one class at most, so that most images are right.

    The intervals cover the mean score over datasets of this size. They add the variance over images, by the delta
    method, and that over the further runs: k-means ends elsewhere from other first centers.

    Args:
        label_N: Classes.
        cluster_N: Cluster of each image.
        rerun_SN: Clusters of S further runs from other first centers; S may be 0.

    Raises:
        UnsuitableDataset: There are fewer than two classes.
    """
    if len(np.unique(label_N)) < 2:
        raise UnsuitableDataset("clustering needs images of at least two classes")
    scores = {}
    for name, measure in (("v_measure", _v_measure), ("ari", _adjusted_rand), ("accuracy", _accuracy)):
        value, influence_N = measure(label_N, cluster_N)
        reruns = [measure(label_N, other_N)[0] for other_N in rerun_SN]
        variance = float(influence_N.var(ddof=1)) / len(label_N)
        variance += float(np.var([value, *reruns], ddof=1)) if reruns else 0.0
        half_width = Z95 * math.sqrt(variance)
        low, high = value - half_width, value + half_width
        if name == "accuracy":  # with no or all images right, the influences are equal
            own = proportion(round(value * len(label_N)), len(label_N))
            low, high = min(low, own.low), max(high, own.high)
        scores[name] = Score(value, max(low, -1.0 if name == "ari" else 0.0), min(high, 1.0), len(label_N))
    return scores


def _v_measure(label_N: NDArray[np.int64], cluster_N: NDArray[np.int64]) -> tuple[float, NDArray[np.float64]]:
    """Return the V-measure and the influence [N] of each image on it."""
    joint_N, label_share_N, cluster_share_N = _shares(label_N, cluster_N)
    information_N = np.log(joint_N / (label_share_N * cluster_share_N))
    entropy_N = -np.log(label_share_N) - np.log(cluster_share_N)  # of classes and clusters together
    information, entropy = float(information_N.mean()), float(entropy_N.mean())
    value = 2 * information / entropy
    return value, (2 * information_N - value * entropy_N) / entropy


def _adjusted_rand(label_N: NDArray[np.int64], cluster_N: NDArray[np.int64]) -> tuple[float, NDArray[np.float64]]:
    """Return the adjusted Rand index and the influence [N] of each image on it."""
    n = len(label_N)
    joint_N, label_share_N, cluster_share_N = _shares(label_N, cluster_N)
    # Share of the other images that are in the same class, in the same cluster, and in both.
    both_N, class_N, group_N = ((n * share_N - 1) / (n - 1) for share_N in (joint_N, label_share_N, cluster_share_N))
    both, same_class, same_cluster = (float(share_N.mean()) for share_N in (both_N, class_N, group_N))
    chance, most = same_class * same_cluster, (same_class + same_cluster) / 2
    value = 1.0 if most == chance else (both - chance) / (most - chance)
    if most == chance:  # one cluster of one class, or each image in its own
        return value, np.zeros(n)
    chance_N = same_class * group_N + same_cluster * class_N
    influence_N = both_N - chance_N - value * ((class_N + group_N) / 2 - chance_N)
    return value, 2 * influence_N / (most - chance)


def _accuracy(label_N: NDArray[np.int64], cluster_N: NDArray[np.int64]) -> tuple[float, NDArray[np.float64]]:
    """Return the accuracy with the best assignment of clusters to classes, and whether each image is right [N]."""
    _, class_N = np.unique(label_N, return_inverse=True)
    _, group_N = np.unique(cluster_N, return_inverse=True)
    counts_CK = np.zeros((int(class_N.max()) + 1, int(group_N.max()) + 1), np.int64)
    np.add.at(counts_CK, (class_N, group_N), 1)
    class_A, group_A = linear_sum_assignment(counts_CK, maximize=True)
    class_of_group_K = np.full(counts_CK.shape[1], -1)
    class_of_group_K[group_A] = class_A
    correct_N = (class_of_group_K[group_N] == class_N).astype(np.float64)
    return float(correct_N.mean()), correct_N


def _shares(label_N: NDArray[np.int64], cluster_N: NDArray[np.int64]) -> tuple[NDArray[np.float64], ...]:
    """Return for each image the shares of the images in its class and cluster, in its class, and in its cluster."""
    shares = []
    for key in (np.stack([label_N, cluster_N]), label_N, cluster_N):
        _, index_N, count_U = np.unique(key, axis=-1, return_inverse=True, return_counts=True)
        shares.append(count_U[index_N.ravel()] / len(label_N))
    return tuple(shares)
