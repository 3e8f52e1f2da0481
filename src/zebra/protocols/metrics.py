"""Outcomes in, scores with 95 % intervals out.

Intervals: Wilson (1927) for proportions; DeLong et al. (1988) for the area under the ROC curve, by the midranks of
Sun and Xu (2014), and Newcombe (2006, method 5) where DeLong has no variance to go by; a bootstrap over samples for
mean average precision.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import rankdata

from zebra.errors import DataError
from zebra.values import Score

Z95 = 1.959963984540054
NUM_RESAMPLES = 1000
RESAMPLES_PER_BLOCK = 100
"""Resamples drawn at once, so that memory does not grow with their number."""


def top_k_classes(score_NC: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Return the k best classes [N, k] of every row, best first; of equal scores the class named first wins."""
    # k passes of argmax, which takes the first of equals, are several times faster than a stable sort.
    left_NC, rows = score_NC.copy(), np.arange(len(score_NC))
    best_NK = np.empty((len(score_NC), k), dtype=np.int64)
    for place in range(k):
        best_NK[:, place] = left_NC.argmax(axis=1)
        left_NC[rows, best_NK[:, place]] = -np.inf
    return best_NK


def proportion(num_correct: int, n: int) -> Score:
    """Return correct/n with its Wilson interval, which stays inside [0, 1] and honest near its ends.

    Raises:
        DataError: n is 0, so that there is nothing to average.
    """
    if n == 0:
        raise DataError("an accuracy over 0 samples is undefined; the data set is empty")
    low, high = _wilson_interval(num_correct / n, n)
    return Score(num_correct / n, low, high, n)


def clustered_proportion(hit_N: NDArray[np.bool_], cluster_N: NDArray[np.int64]) -> Score:
    """Return the share of hits among samples that come in clusters, as the captions of one picture do.

    The interval is Wilson's for as many independent samples as would vary as much, and at most N of them.

    Raises:
        DataError: There are no samples.
    """
    n = len(hit_N)
    if n == 0:
        raise DataError("a share of 0 samples is undefined; the data set is empty")
    share = float(hit_N.mean())
    _, own_N = np.unique(cluster_N, return_inverse=True)
    excess_G = np.bincount(own_N, weights=hit_N - share)
    variance = float((excess_G**2).sum()) / n**2
    # All hits or none say nothing of how alike a cluster's samples are: count the clusters.
    effective = share * (1 - share) / variance if variance > 0 else float(len(excess_G))
    low, high = _wilson_interval(share, min(effective, n))
    return Score(share, low, high, n)


def mean_per_class_accuracy(correct_N: NDArray[np.bool_], label_N: NDArray[np.int64]) -> Score:
    """Average the accuracy of each class that occurs; the interval treats classes as fixed, samples as drawn."""
    n = len(label_N)
    if n == 0:
        raise DataError("a mean per class over 0 samples is undefined; the data set is empty")
    classes_C, own_N, count_C = np.unique(label_N, return_inverse=True, return_counts=True)
    right_C = np.bincount(own_N, weights=correct_N)
    value = float((right_C / count_C).mean())
    # A class of one sample, or one that is all right, has no variance of its own: each borrows one sample from the
    # average over all, which itself is held off 0 and 1 (Agresti and Coull 1998).
    overall = (float(right_C.sum()) + 2) / (n + 4)
    share_C = (right_C + overall) / (count_C + 1)
    error = Z95 * math.sqrt(float((share_C * (1 - share_C) / count_C).sum())) / len(classes_C)
    return Score(value, max(0.0, value - error), min(1.0, value + error), n)


def confusion_matrix(
    predicted_N: NDArray[np.int64], label_N: NDArray[np.int64], num_classes: int
) -> NDArray[np.int64]:
    """Count [C, C]: rows are true classes, columns predicted ones."""
    counts_CC = np.zeros((num_classes, num_classes), dtype=np.int64)
    np.add.at(counts_CC, (label_N, predicted_N), 1)
    return counts_CC


def roc_auc(score_N: NDArray[np.floating], positive_N: NDArray[np.bool_]) -> Score:
    """Return how often a positive sample scores above a negative one; a tie counts one half.

    Raises:
        DataError: All samples are positive, or all negative, or a score is NaN.
    """
    if np.isnan(score_N).any():
        raise DataError("a score is NaN; the model that made the vectors diverged")
    high_M, low_N = score_N[positive_N], score_N[~positive_N]
    m, n = len(high_M), len(low_N)
    if m == 0 or n == 0:
        raise DataError(
            f"ROC-AUC compares two kinds of samples, but there are {m} positive and {n} negative ones"
        )
    together = rankdata(np.concatenate([high_M, low_N]))
    # The share of negatives below each positive, and of positives above each negative.
    above_M = (together[:m] - rankdata(high_M)) / n
    below_N = 1 - (together[m:] - rankdata(low_N)) / m
    area = float(above_M.mean())
    if min(m, n) == 1 or area in (0.0, 1.0):
        low, high = _newcombe_interval(area, m, n)
    else:
        error = Z95 * math.sqrt(float(above_M.var(ddof=1)) / m + float(below_N.var(ddof=1)) / n)
        low, high = area - error, area + error
    return Score(area, max(0.0, low), min(1.0, high), m + n)


def average_precisions(
    score_NC: NDArray[np.floating], label_NC: NDArray[np.bool_], *, num_points: int | None = None
) -> NDArray[np.float64]:
    """Return the average precision [C] of every class; NaN for a class without a positive sample.

    Samples of equal score are taken in together, as in scikit-learn, so that their order says nothing.

    Args:
        score_NC: Similarities, float [N, C].
        label_NC: Which classes are in the picture, bool [N, C].
        num_points: Interpolate at so many levels of recall: 11 in PASCAL VOC 2007. None: the area under the steps.
    """
    once_N1 = np.ones((len(score_NC), 1))
    curves = [
        _precision_recall_curve(score_N, truth_N, once_N1)
        for score_N, truth_N in zip(score_NC.T, label_NC.T, strict=True)
    ]
    return np.array([_average_precision(curve, num_points)[0] for curve in curves])


def mean_average_precision(
    score_NC: NDArray[np.floating],
    label_NC: NDArray[np.bool_],
    *,
    num_points: int | None = None,
    seed: int = 0,
) -> Score:
    """Average the average precisions of the classes that have a positive sample.

    The interval is as wide as the middle 95 % over 1000 sets of N samples drawn with replacement, about the score:
    repeated samples raise an average precision, so the sets' own scores lie too high. A set leaves out the classes
    it has no positive sample of, as the score itself does.

    Raises:
        DataError: No class has a positive sample, or a score is NaN.
    """
    if np.isnan(score_NC).any():
        raise DataError("a score is NaN; the model that made the vectors diverged")
    present = label_NC.any(axis=0)
    if not present.any():
        raise DataError("mean average precision needs a class with a positive sample, and there is none")
    score_NC, label_NC = score_NC[:, present], label_NC[:, present]
    value = float(average_precisions(score_NC, label_NC, num_points=num_points).mean())
    n, rng, drawn = len(score_NC), np.random.default_rng(seed), []
    for _ in range(NUM_RESAMPLES // RESAMPLES_PER_BLOCK):
        weight_BN = np.stack(
            [np.bincount(rng.integers(0, n, n), minlength=n) for _ in range(RESAMPLES_PER_BLOCK)]
        )
        weight_NB = np.ascontiguousarray(weight_BN.T, dtype=np.float32)
        area_CB = np.stack(
            [
                _average_precision(_precision_recall_curve(score_N, truth_N, weight_NB), num_points)
                for score_N, truth_N in zip(score_NC.T, label_NC.T, strict=True)
            ]
        )
        found_B = (~np.isnan(area_CB)).sum(axis=0)
        drawn.append(np.nansum(area_CB, axis=0)[found_B > 0] / found_B[found_B > 0])
    low, middle, high = np.quantile(np.concatenate(drawn), (0.025, 0.5, 0.975))
    return Score(value, max(0.0, value + float(low - middle)), min(1.0, value + float(high - middle)), n)


def average_scores(scores: Sequence[Score]) -> Score:
    """Return the mean of scores on different samples, with the interval of a mean of independent values."""
    value = math.fsum(score.value for score in scores) / len(scores)
    below = math.hypot(*(score.value - score.low for score in scores)) / len(scores)
    above = math.hypot(*(score.high - score.value for score in scores)) / len(scores)
    return Score(value, value - below, value + above, sum(score.n for score in scores))


def subtract_scores(first: Score, second: Score) -> Score:
    """Return first − second with Newcombe's interval (1998, method 10): the distances to the ends add in squares.

    It takes the two for independent. Two models on the same pictures are not: there it is too wide, on the safe
    side, and a paired test of the samples is sharper.
    """
    value = first.value - second.value
    below = math.hypot(first.value - first.low, second.high - second.value)
    above = math.hypot(first.high - first.value, second.value - second.low)
    return Score(value, value - below, value + above, first.n)


class _PrecisionRecallCurve(NamedTuple):
    """A precision-recall curve at its P positive samples, for B weightings of the samples at once."""

    precision_PB: NDArray[np.floating]
    true_positive_PB: NDArray[np.floating]
    """Weight of the positives that score no less."""
    weight_PB: NDArray[np.floating]


def _precision_recall_curve(
    score_N: NDArray[np.floating], label_N: NDArray[np.bool_], weight_NB: NDArray[np.floating]
) -> _PrecisionRecallCurve:
    order_N = np.argsort(-score_N, kind="stable")
    falling_N, ranked_NB = -score_N[order_N], weight_NB[order_N]
    place_P = np.flatnonzero(label_N[order_N])
    weight_PB = ranked_NB[place_P]
    # Where the samples that tie with each positive end, among all and among the positives.
    end_P = np.searchsorted(falling_N, falling_N[place_P], side="right") - 1
    found_PB = weight_PB.cumsum(axis=0)[np.searchsorted(place_P, end_P, side="right") - 1]
    taken_PB = ranked_NB.cumsum(axis=0)[end_P]
    return _PrecisionRecallCurve(found_PB / np.maximum(taken_PB, 1), found_PB, weight_PB)


def _average_precision(curve: _PrecisionRecallCurve, num_points: int | None) -> NDArray[np.float64]:
    """Return the average precision [B]; NaN where no positive sample has weight."""
    total_B = curve.weight_PB.sum(axis=0, dtype=np.float64)
    if not len(curve.weight_PB):
        return np.full(len(total_B), np.nan)
    if num_points is None:
        area_B = (curve.precision_PB * curve.weight_PB).sum(axis=0, dtype=np.float64)
        return np.asarray(area_B / np.where(total_B > 0, total_B, np.nan))
    # The best precision at no less than each level of recall: from the first positive that reaches the level on.
    ahead_BP = np.maximum.accumulate(curve.precision_PB.T[:, ::-1], axis=1)[:, ::-1]
    found_BP, level_K = curve.true_positive_PB.T * float(num_points - 1), np.arange(num_points)
    areas = [
        ahead_P[np.searchsorted(found_P, level_K * total)].mean() if total > 0 else np.nan
        for ahead_P, found_P, total in zip(ahead_BP, found_BP, total_B, strict=True)
    ]
    return np.array(areas, dtype=np.float64)


def _wilson_interval(share: float, n: float) -> tuple[float, float]:
    spread = Z95 * math.sqrt(share * (1 - share) / n + Z95**2 / (4 * n**2))
    centre, norm = share + Z95**2 / (2 * n), 1 + Z95**2 / n
    # At 0 and n successes the exact end is 0 or 1; rounding must not push it past the value.
    low, high = min((centre - spread) / norm, share), max((centre + spread) / norm, share)
    return max(0.0, low), min(1.0, high)


def _newcombe_interval(auc: float, num_positive: int, num_negative: int) -> tuple[float, float]:
    """Return the areas that lie 1.96 of their own standard errors (Hanley and McNeil 1982) away from `auc`."""
    balanced = (num_positive + num_negative) / 2 - 1

    def excess(true: float) -> float:
        spread = 1 + balanced * ((1 - true) / (2 - true) + true / (1 + true))
        return (true - auc) ** 2 - Z95**2 * true * (1 - true) * spread / (num_positive * num_negative)

    # At `area` itself the excess is negative, at 0 and 1 positive; where `area` is an end, so is the interval.
    low = 0.0 if auc == 0 else brentq(excess, 0.0, auc - 1e-9)
    high = 1.0 if auc == 1 else brentq(excess, auc + 1e-9, 1.0)
    return low, high
