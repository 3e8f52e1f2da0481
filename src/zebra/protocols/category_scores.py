"""Scores by category, and means over categories that each count equally.

Categories may be kinds of kinds, separated by `/`: the score of `Object` is the mean of those of `Object/Size` and
`Object/Location`, as in VL-CheckList, whose authors average sources, then sizes, then objects.
"""

import math
from collections import Counter
from collections.abc import Collection, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.stats import t as student

from zebra.protocols.metrics import clustered_proportion, proportion, smooth_accuracies, wilson_interval
from zebra.values import Score

SEPARATOR = "/"


def weigh_categories(
    category_N: Sequence[str], *, min_size: int = 1, excluded: Collection[str] = ()
) -> NDArray[np.float64]:
    """Return the weight of every sample in the mean over categories; the weights sum to 1.

    Args:
        category_N: The category of every sample; "" for none.
        min_size: Samples of smaller categories have the weight 0.
        excluded: Categories whose samples have the weight 0.
    """
    sizes = Counter(category_N)
    counted = [name for name, size in sizes.items() if name and size >= min_size and name not in excluded]
    children: dict[str, set[str]] = {}
    for name in counted:
        for parent, child in _edges(name):
            children.setdefault(parent, set()).add(child)
    weights = {
        name: 1 / sizes[name] / math.prod(len(children[parent]) for parent, _ in _edges(name)) for name in counted
    }
    return np.array([weights.get(name, 0.0) for name in category_N])


def score_categories(
    correct_N: NDArray[np.bool_], category_N: Sequence[str], weight_N: NDArray[np.float64], cluster_N: NDArray[np.int64]
) -> dict[str, Score]:
    """Return the score of every category and kind of categories in order of first occurrence, widest first.

    Args:
        correct_N: Whether each sample is correct.
        category_N: The category of every sample.
        weight_N: As `weigh_categories` returns it.
        cluster_N: Number of the cluster of every sample; samples of different clusters are independent.

    Returns:
        Name → score; "" is the mean over all categories.
    """
    name_C, code_N = np.unique(np.array(category_N, dtype=str), return_inverse=True)
    weight_C = np.zeros(len(name_C))
    weight_C[code_N] = weight_N  # all samples of a category weigh the same
    members: dict[str, set[int]] = {}
    for code in dict.fromkeys(code_N[weight_N > 0].tolist()):
        for kind, child in _edges(str(name_C[code])):
            members.setdefault(kind, set()).add(code)
            members.setdefault(child, set()).add(code)
    scores = {}
    for name, codes in members.items():
        is_member_C = np.zeros(len(name_C), dtype=np.bool_)
        is_member_C[list(codes)] = True
        mask_N = is_member_C[code_N]
        arguments = correct_N[mask_N], cluster_N[mask_N]
        if len(codes) == 1:
            scores[name] = score_proportion(*arguments)
        else:
            scores[name] = _score_mean(*arguments, code_N[mask_N], weight_C)
    return scores


def score_proportion(correct_N: NDArray[np.bool_], cluster_N: NDArray[np.int64]) -> Score:
    """Return the fraction of correct samples, with an interval for clusters if there are any."""
    if len(np.unique(cluster_N)) == len(cluster_N):
        return proportion(int(correct_N.sum()), len(correct_N))
    return clustered_proportion(correct_N, cluster_N)


def cluster_by_shared(item_NI: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the number of the cluster of each of N samples; samples with an item in common are in one cluster."""
    num_samples, num_items = len(item_NI), int(item_NI.max()) + 1
    rows = np.repeat(np.arange(num_samples), item_NI.shape[1])
    columns = num_samples + item_NI.ravel()
    size = num_samples + num_items
    graph = coo_matrix((np.ones(len(rows), dtype=np.int8), (rows, columns)), shape=(size, size))
    cluster_N: NDArray[np.int64] = connected_components(graph, directed=False)[1][:num_samples].astype(np.int64)
    return cluster_N


def _edges(name: str) -> list[tuple[str, str]]:
    """Return (kind, kind or category in it) from the root "" to a category.

    >>> _edges("Object/Size")
    [('', 'Object'), ('Object', 'Object/Size')]
    """
    parts = name.split(SEPARATOR)
    path = ["", *(SEPARATOR.join(parts[: depth + 1]) for depth in range(len(parts)))]
    return list(pairwise(path))


def _score_mean(
    correct_N: NDArray[np.bool_],
    cluster_N: NDArray[np.int64],
    code_N: NDArray[np.int64],
    sample_weight_C: NDArray[np.float64],
) -> Score:
    """Return the weighted mean with an interval as in `mean_per_class_accuracy`, widened for clusters."""
    n = len(correct_N)
    codes, index_N, count_C = np.unique(code_N, return_inverse=True, return_counts=True)
    weight_C = sample_weight_C[codes] * count_C
    weight_C /= weight_C.sum()
    correct_C = np.bincount(index_N, weights=correct_N)
    value = float(weight_C @ (correct_C / count_C))
    accuracy_C, variance_C = smooth_accuracies(correct_C, count_C)
    part_C = weight_C**2 * variance_C
    variance, mean = float(part_C.sum()), float(weight_C @ accuracy_C)
    degrees = variance**2 / float((part_C**2 / (count_C + 1)).sum())
    # The variance of clusters of the observed residuals, relative to that of independent samples.
    residual_N = (weight_C / count_C)[index_N] * (correct_N - (correct_C / count_C)[index_N])
    independent = float((residual_N**2).sum())
    _, cluster_index_N = np.unique(cluster_N, return_inverse=True)
    num_clusters = int(cluster_index_N.max()) + 1
    clustered = float((np.bincount(cluster_index_N, weights=residual_N) ** 2).sum())
    design_effect = clustered / independent if independent > 0 else n / num_clusters
    if 1 < num_clusters < n:  # the variance of few clusters is too small on average, and itself uncertain
        design_effect *= num_clusters / (num_clusters - 1)
        degrees = min(degrees, num_clusters - 1)
    effective_n = mean * (1 - mean) / variance / max(design_effect, 1.0)
    low, high = wilson_interval(value, effective_n, float(student.ppf(0.975, degrees)))
    return Score(value, low, high, n)
