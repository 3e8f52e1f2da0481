"""Metrics with 95% confidence intervals.

Intervals: Wilson (1927) for proportions; for ROC-AUC, the hull of those of DeLong et al. (1988), on logits, and of
Newcombe (2006, method 5); bootstrap over samples for mean average precision.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, logit, logsumexp
from scipy.stats import rankdata
from scipy.stats import t as student

from zebra.errors import DataError
from zebra.values import Score

Z95 = 1.959963984540054
NUM_RESAMPLES = 1000
RESAMPLES_PER_BLOCK = 100
"""Resamples per block, so that memory does not grow with their number."""


def top_k_classes(score_NC: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Return the k highest-scoring classes [N, k] of every row; of equal scores, the lower index wins."""
    # argmax takes the first of equal scores; k passes of it are several times faster than a stable sort.
    remaining_NC, rows = score_NC.copy(), np.arange(len(score_NC))
    top_NK = np.empty((len(score_NC), k), dtype=np.int64)
    for rank in range(k):
        top_NK[:, rank] = remaining_NC.argmax(axis=1)
        remaining_NC[rows, top_NK[:, rank]] = -np.inf
    return top_NK


def class_probabilities(
    logit_NC: NDArray[np.floating[Any]], class_NK: NDArray[np.int64], *, is_sigmoid: bool = False
) -> NDArray[np.float32]:
    """Return the probabilities [N, K] of the given classes of every row.

    Args:
        logit_NC: Logits of all classes.
        class_NK: Class indices.
        is_sigmoid: Apply the sigmoid to each logit; by default, the softmax over the classes.
    """
    logit_NK = np.take_along_axis(logit_NC, class_NK, axis=1)
    probability_NK: NDArray[np.float32] = (
        expit(logit_NK) if is_sigmoid else np.exp(logit_NK - logsumexp(logit_NC, axis=1, keepdims=True))
    ).astype(np.float32)
    return probability_NK


def wilson_interval(value: float, n: float, quantile: float = Z95) -> tuple[float, float]:
    """Return the Wilson interval of a proportion over n samples; `quantile` is that of the normal distribution."""
    half_width = quantile * math.sqrt(value * (1 - value) / n + quantile**2 / (4 * n**2))
    center, norm = value + quantile**2 / (2 * n), 1 + quantile**2 / n
    # At 0 and n successes the exact end is 0 or 1; rounding must not move it past the value.
    low, high = min((center - half_width) / norm, value), max((center + half_width) / norm, value)
    return max(0.0, low), min(1.0, high)


def proportion(num_correct: int, n: int) -> Score:
    """Return num_correct / n with its Wilson interval, which stays inside [0, 1].

    Raises:
        DataError: n is 0.
    """
    if n == 0:
        raise DataError("cannot compute an accuracy over 0 samples: the dataset is empty")
    low, high = wilson_interval(num_correct / n, n)
    return Score(num_correct / n, low, high, n)


def clustered_proportion(hit_N: NDArray[np.bool_], cluster_N: NDArray[np.int64]) -> Score:
    """Return the fraction of hits among samples in clusters, such as the captions of one image.

    The interval is Wilson's for the number of independent samples with the same variance, at most N.

    Raises:
        DataError: There are no samples.
    """
    n = len(hit_N)
    if n == 0:
        raise DataError("cannot compute a proportion over 0 samples: the dataset is empty")
    value = float(hit_N.mean())
    _, cluster_index_N = np.unique(cluster_N, return_inverse=True)
    excess_G = np.bincount(cluster_index_N, weights=hit_N - value)
    variance = float((excess_G**2).sum()) / n**2
    # With all hits or none, the similarity inside clusters is unknown: count the clusters.
    effective_n = value * (1 - value) / variance if variance > 0 else float(len(excess_G))
    low, high = wilson_interval(value, min(effective_n, n))
    return Score(value, low, high, n)


def mean_of_fractions(value_N: NDArray[np.floating]) -> Score:
    """Return the mean of independent values in [0, 1], such as the mean of several answers to one image.

    The interval is Wilson's for the number of yes-or-no samples with the same variance.

    Raises:
        DataError: There are no values.
    """
    n = len(value_N)
    if n == 0:
        raise DataError("cannot compute a mean over 0 samples: the dataset is empty")
    value, variance = float(value_N.mean()), float(value_N.var())
    # Equal values have no variance; they count as yes-or-no samples.
    low, high = wilson_interval(value, n * value * (1 - value) / variance if variance > 0 else n)
    return Score(value, low, high, n)


def mean_per_class_accuracy(correct_N: NDArray[np.bool_], label_N: NDArray[np.int64]) -> Score:
    """Average accuracy over the classes that occur; the interval treats classes as fixed and samples as random."""
    n = len(label_N)
    if n == 0:
        raise DataError("cannot compute an accuracy per class over 0 samples: the dataset is empty")
    classes_C, class_index_N, count_C = np.unique(label_N, return_inverse=True, return_counts=True)
    correct_C = np.bincount(class_index_N, weights=correct_N)
    value = float((correct_C / count_C).mean())
    accuracy_C, variance_C = smooth_accuracies(correct_C, count_C)
    # Wilson's interval for the number of independent samples with the same variance. Student's t, with Satterthwaite's
    # degrees of freedom, because a few small classes may determine the variance (Korn and Graubard 1998).
    mean = float(accuracy_C.mean())
    effective_n = mean * (1 - mean) * len(classes_C) ** 2 / float(variance_C.sum())
    degrees = float(variance_C.sum()) ** 2 / float((variance_C**2 / (count_C + 1)).sum())
    low, high = wilson_interval(value, effective_n, float(student.ppf(0.975, degrees)))
    return Score(value, low, high, n)


def smooth_accuracies(
    correct_C: NDArray[Any], count_C: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the accuracies [C] of classes, kept away from 0 and 1, and the variances [C] of their observed values.

    Args:
        correct_C: Number of correct samples per class.
        count_C: Number of samples per class.
    """
    # A class with one sample, or with only correct ones, has no variance: add one sample with the overall accuracy,
    # which is kept away from 0 and 1 (Agresti and Coull 1998). The factor removes the bias at this accuracy.
    overall = (float(correct_C.sum()) + 2) / (int(count_C.sum()) + 4)
    accuracy_C = (correct_C + overall) / (count_C + 1)
    bias_C = (count_C + 1) ** 2 / (count_C**2 + count_C + 1)
    variance_C = bias_C * accuracy_C * (1 - accuracy_C) / count_C
    return accuracy_C, variance_C


def confusion_matrix(predicted_N: NDArray[np.int64], label_N: NDArray[np.int64], num_classes: int) -> NDArray[np.int64]:
    """Return the counts [C, C]: rows are true classes, columns predicted classes."""
    counts_CC = np.zeros((num_classes, num_classes), dtype=np.int64)
    np.add.at(counts_CC, (label_N, predicted_N), 1)
    return counts_CC


def roc_auc(score_N: NDArray[np.floating], positive_N: NDArray[np.bool_]) -> Score:
    """Return the probability that a positive sample scores above a negative one; ties count 1/2.

    The interval is the hull of two. DeLong's variance, on logits with Student's t, is right for any distribution, but
    too small where few samples are misordered. Newcombe's interval has the variance of an exponential model instead.

    Raises:
        DataError: All samples are positive, all are negative, or a score is NaN.
    """
    if np.isnan(score_N).any():
        raise DataError("a score is NaN. The model has diverged.")
    positive_score_M, negative_score_N = score_N[positive_N], score_N[~positive_N]
    m, n = len(positive_score_M), len(negative_score_N)
    if m == 0 or n == 0:
        raise DataError(f"ROC-AUC needs positive and negative samples; got {m} positive and {n} negative ones")
    combined_rank = rankdata(np.concatenate([positive_score_M, negative_score_N]))
    # Fraction of negatives below each positive, and of positives above each negative.
    above_M = (combined_rank[:m] - rankdata(positive_score_M)) / n
    below_N = 1 - (combined_rank[m:] - rankdata(negative_score_N)) / m
    auc = float(above_M.mean())
    ends = [*_newcombe_interval(auc, m, n), *_delong_interval(auc, above_M, below_N)]
    return Score(auc, min(ends), max(ends), m + n)


def average_precisions(
    score_NC: NDArray[np.floating], label_NC: NDArray[np.bool_], *, num_points: int | None = None
) -> NDArray[np.float64]:
    """Return the average precision [C] of every class; NaN for a class without a positive sample.

    Samples with equal scores are added together, as in scikit-learn, so their order has no effect.

    Args:
        score_NC: Similarities, float [N, C].
        label_NC: Whether each class is present, bool [N, C].
        num_points: Number of recall levels for interpolation: 11 in PASCAL VOC 2007. None: area under the step curve.
    """
    weight_N1 = np.ones((len(score_NC), 1))
    curves = [
        _precision_recall_curve(score_N, label_N, weight_N1)
        for score_N, label_N in zip(score_NC.T, label_NC.T, strict=True)
    ]
    return np.array([_average_precision(curve, num_points)[0] for curve in curves])


def mean_average_precision(
    score_NC: NDArray[np.floating], label_NC: NDArray[np.bool_], *, num_points: int | None = None, seed: int = 0
) -> Score:
    """Average the average precision over the classes with a positive sample.

    The interval covers the mean score over datasets of this size. On a larger dataset the score is lower, because
    average precision is biased upwards, especially with 11 points. The interval is logit(score) ± 1.96 standard
    deviations of the logits of 1000 bootstrap resamples of the samples. A resample leaves out classes without a
    positive sample, as the score does. At a score of 1 the resamples are equal; there, the interval is that of the mean
    per class of the fraction of positive samples with precision 1, which the score cannot be below.

    Raises:
        DataError: No class has a positive sample, or a score is NaN.
    """
    if np.isnan(score_NC).any():
        raise DataError("a score is NaN. The model has diverged.")
    has_positive_C = label_NC.any(axis=0)
    if not has_positive_C.any():
        raise DataError("mean average precision needs a class with a positive sample; got none")
    score_NC, label_NC = score_NC[:, has_positive_C], label_NC[:, has_positive_C]
    value = float(average_precisions(score_NC, label_NC, num_points=num_points).mean())
    n, rng, resamples = len(score_NC), np.random.default_rng(seed), []
    if value == 1:
        positive_class_P = label_NC.nonzero()[1]
        interval = mean_per_class_accuracy(np.ones(len(positive_class_P), bool), positive_class_P)
        return Score(value, interval.low, interval.high, n)
    for _ in range(NUM_RESAMPLES // RESAMPLES_PER_BLOCK):
        weight_BN = np.stack([np.bincount(rng.integers(0, n, n), minlength=n) for _ in range(RESAMPLES_PER_BLOCK)])
        weight_NB = np.ascontiguousarray(weight_BN.T, dtype=np.float32)
        precision_CB = np.stack(
            [
                _average_precision(_precision_recall_curve(score_N, label_N, weight_NB), num_points)
                for score_N, label_N in zip(score_NC.T, label_NC.T, strict=True)
            ]
        )
        num_classes_B = (~np.isnan(precision_CB)).sum(axis=0)
        resamples.append(np.nansum(precision_CB, axis=0)[num_classes_B > 0] / num_classes_B[num_classes_B > 0])
    margin = 0.5 / (int(label_NC.sum()) + 1)  # keeps logits finite
    center, logit_B = (logit(np.clip(x, margin, 1 - margin)) for x in (value, np.concatenate(resamples)))
    half_width = Z95 * float(logit_B.std(ddof=1))
    low, high = expit(center - half_width), expit(center + half_width)
    return Score(value, min(float(low), value), max(float(high), value), n)


def average_scores(scores: Sequence[Score]) -> Score:
    """Return the mean of scores on different samples; the interval assumes that they are independent."""
    value = math.fsum(score.value for score in scores) / len(scores)
    below = math.hypot(*(score.value - score.low for score in scores)) / len(scores)
    above = math.hypot(*(score.high - score.value for score in scores)) / len(scores)
    return Score(value, value - below, value + above, sum(score.n for score in scores))


def subtract_scores(first: Score, second: Score) -> Score:
    """Return first − second with Newcombe's interval (1998, method 10).

    The interval assumes independent scores. For two models on the same images it is too wide, which is conservative;
    a paired test is more precise there.
    """
    value = first.value - second.value
    below = math.hypot(first.value - first.low, second.high - second.value)
    above = math.hypot(first.high - first.value, second.value - second.low)
    return Score(value, value - below, value + above, first.n)


class _PrecisionRecallCurve(NamedTuple):
    """A precision-recall curve at its P positive samples, for B weightings of the samples."""

    precision_PB: NDArray[np.floating]
    true_positive_PB: NDArray[np.floating]
    """Weight of the positive samples with at least this score."""
    weight_PB: NDArray[np.floating]


def _precision_recall_curve(
    score_N: NDArray[np.floating], label_N: NDArray[np.bool_], weight_NB: NDArray[np.floating]
) -> _PrecisionRecallCurve:
    order_N = np.argsort(-score_N, kind="stable")
    negated_score_N, ranked_weight_NB = -score_N[order_N], weight_NB[order_N]
    rank_P = np.flatnonzero(label_N[order_N])
    weight_PB = ranked_weight_NB[rank_P]
    # Index of the last sample with the same score as each positive sample.
    end_P = np.searchsorted(negated_score_N, negated_score_N[rank_P], side="right") - 1
    true_positive_PB = weight_PB.cumsum(axis=0)[np.searchsorted(rank_P, end_P, side="right") - 1]
    predicted_PB = ranked_weight_NB.cumsum(axis=0)[end_P]
    return _PrecisionRecallCurve(true_positive_PB / np.maximum(predicted_PB, 1), true_positive_PB, weight_PB)


def _average_precision(curve: _PrecisionRecallCurve, num_points: int | None) -> NDArray[np.float64]:
    """Return the average precision [B]; NaN if no positive sample has weight."""
    total_B = curve.weight_PB.sum(axis=0, dtype=np.float64)
    if not len(curve.weight_PB):
        return np.full(len(total_B), np.nan)
    if num_points is None:
        precision_B = (curve.precision_PB * curve.weight_PB).sum(axis=0, dtype=np.float64)
        return np.asarray(precision_B / np.where(total_B > 0, total_B, np.nan))
    # Highest precision at each recall level or above, from the first positive sample that reaches the level.
    max_precision_BP = np.maximum.accumulate(curve.precision_PB.T[:, ::-1], axis=1)[:, ::-1]
    scaled_recall_BP, level_K = curve.true_positive_PB.T * float(num_points - 1), np.arange(num_points)
    precisions = [
        max_precision_P[np.searchsorted(scaled_recall_P, level_K * total)].mean() if total > 0 else np.nan
        for max_precision_P, scaled_recall_P, total in zip(max_precision_BP, scaled_recall_BP, total_B, strict=True)
    ]
    return np.array(precisions, dtype=np.float64)


def _delong_interval(auc: float, above_M: NDArray[np.float64], below_N: NDArray[np.float64]) -> tuple[float, ...]:
    """Return logit(auc) ± t standard errors (Qin and Hotilovac 2008), or nothing if the variance cannot be estimated.

    Args:
        auc: The mean of both arrays.
        above_M: Fraction of negatives below each positive.
        below_N: Fraction of positives above each negative.
    """
    degrees_M, degrees_N = len(above_M) - 1, len(below_N) - 1
    if min(degrees_M, degrees_N) == 0 or auc in (0.0, 1.0):
        return ()
    variance_M, variance_N = (float(x.var(ddof=1)) / len(x) for x in (above_M, below_N))
    variance = variance_M + variance_N
    if variance == 0:  # all scores are equal
        return ()
    # Satterthwaite's degrees of freedom
    quantile = student.ppf(0.975, variance**2 / (variance_M**2 / degrees_M + variance_N**2 / degrees_N))
    half_width = float(quantile) * math.sqrt(variance) / (auc * (1 - auc))
    return float(expit(logit(auc) - half_width)), float(expit(logit(auc) + half_width))


def _newcombe_interval(auc: float, num_positive: int, num_negative: int) -> tuple[float, float]:
    """Return the AUCs that are 1.96 of their own standard errors (Hanley and McNeil 1982) away from `auc`."""
    balanced = (num_positive + num_negative) / 2 - 1

    def excess(true: float) -> float:
        variance_factor = 1 + balanced * ((1 - true) / (2 - true) + true / (1 + true))
        return (true - auc) ** 2 - Z95**2 * true * (1 - true) * variance_factor / (num_positive * num_negative)

    # The excess is negative at `auc` and positive at 0 and 1. If `auc` is 0 or 1, that end of the interval is too.
    low = 0.0 if auc == 0 else brentq(excess, 0.0, auc - 1e-9)
    high = 1.0 if auc == 1 else brentq(excess, auc + 1e-9, 1.0)
    return low, high
