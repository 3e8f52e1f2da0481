"""Worst group, macro F1 over classes, and means over clusters of samples."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import beta
from scipy.stats import t as student

from zebra.errors import DataError, ShapeError
from zebra.protocols.metrics import NUM_RESAMPLES, Z95, mean_per_class_accuracy, wilson_interval
from zebra.values import Score


@dataclass(frozen=True, slots=True)
class WorstGroup:
    """The group with the lowest proportion of hits."""

    name: str
    size: int
    score: Score


def find_worst_group(hit_N: NDArray[np.bool_], group_N: Sequence[str]) -> WorstGroup:
    """Return the group with the lowest proportion of hits; of equal ones, the first by name.

    The value is the minimum over all groups, however small, as in WILDS. The interval covers the minimum of the true
    proportions. Each group has a Jeffreys interval; the lowest lower end is the lower end. The lowest of several values
    is low partly by chance, so the upper end is the lowest upper end at the level of Bonferroni's correction for the
    groups that may be the worst: those whose interval begins below the lowest upper end.

    Args:
        hit_N: Whether each sample is a hit.
        group_N: The group of each sample.

    Raises:
        DataError: There are no samples.
        ShapeError: The arguments differ in length.
    """
    if len(hit_N) != len(group_N):
        raise ShapeError(f"{len(hit_N)} results for {len(group_N)} groups. Pass one group for each sample")
    if not len(hit_N):
        raise DataError("cannot find the worst group of 0 samples: the dataset is empty")
    names, index_N = np.unique(np.asarray(group_N, dtype=str), return_inverse=True)
    total_G = np.bincount(index_N)
    hits_G = np.bincount(index_N, weights=np.asarray(hit_N, dtype=np.float64))
    worst = int((hits_G / total_G).argmin())
    low_G, high_G = _jeffreys_intervals(hits_G, total_G, 0.025)
    num_candidates = int((low_G <= high_G.min()).sum())
    high = float(_jeffreys_intervals(hits_G, total_G, 0.025 / num_candidates)[1].min())
    value = float(hits_G[worst] / total_G[worst])
    score = Score(value, min(float(low_G.min()), value), max(high, value), len(hit_N))
    return WorstGroup(str(names[worst]), int(total_G[worst]), score)


def macro_f1(predicted_N: NDArray[np.int64], label_N: NDArray[np.int64], *, seed: int = 0) -> Score:
    """Return the mean F1 score over the classes that occur among the labels, as in WILDS.

    The interval covers the mean score over datasets of this size: logit(score) ± 1.96 standard deviations of the logits
    of 1000 bootstrap resamples of the samples. At a score of 0 or 1 it is that of the accuracy per class.

    Args:
        predicted_N: Class indices; a class without a label counts as wrong.
        label_N: Class indices.
        seed: Seed of the resamples.

    Raises:
        DataError: There are no samples.
    """
    n = len(label_N)
    if not n:
        raise DataError("cannot compute an F1 score over 0 samples: the dataset is empty")
    classes_C, label_index_N = np.unique(label_N, return_inverse=True)
    num_classes = len(classes_C)
    position_N = np.minimum(np.searchsorted(classes_C, predicted_N), num_classes - 1)
    predicted_index_N = np.where(classes_C[position_N] == predicted_N, position_N, num_classes)
    pair_P, count_P = np.unique(label_index_N * (num_classes + 1) + predicted_index_N, return_counts=True)
    label_P, predicted_P = pair_P // (num_classes + 1), pair_P % (num_classes + 1)

    def compute(weight_P: NDArray[np.integer]) -> float:
        true_C = np.bincount(label_P, weights=weight_P, minlength=num_classes)
        positive_C = np.bincount(predicted_P, weights=weight_P, minlength=num_classes + 1)[:num_classes]
        hit_C = np.bincount(label_P, weights=weight_P * (label_P == predicted_P), minlength=num_classes)
        return float((2 * hit_C / np.maximum(true_C + positive_C, 1))[true_C > 0].mean())

    value = compute(count_P)
    if value in (0.0, 1.0):
        score = mean_per_class_accuracy(predicted_N == label_N, label_N)
        return Score(value, score.low, score.high, n)
    rng, margin = np.random.default_rng(seed), 0.5 / (n + 1)  # the margin keeps logits finite
    resamples = [compute(weight_P) for weight_P in rng.multinomial(n, count_P / n, size=NUM_RESAMPLES)]
    center, logit_B = (logit(np.clip(x, margin, 1 - margin)) for x in (value, np.array(resamples)))
    half_width = Z95 * float(logit_B.std(ddof=1))
    low, high = float(expit(center - half_width)), float(expit(center + half_width))
    return Score(value, min(low, value), max(high, value), n)


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


def _jeffreys_intervals(
    hits_G: NDArray[np.number], total_G: NDArray[np.int64], tail: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    low_G = np.where(hits_G > 0, beta.ppf(tail, hits_G + 0.5, total_G - hits_G + 0.5), 0.0)
    high_G = np.where(hits_G < total_G, beta.ppf(1 - tail, hits_G + 0.5, total_G - hits_G + 0.5), 1.0)
    return low_G, high_G
