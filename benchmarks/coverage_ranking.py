"""Cases for areas under curves: ROC-AUC and mean average precision."""

import math
from collections.abc import Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from coverage_cases import Case, IntervalCase
from zebra.protocols.metrics import average_precisions, mean_average_precision, roc_auc
from zebra.values import Score


def cases() -> Iterator[Case]:
    """Yield all cases of this module."""
    for num_positive, num_negative in ((50, 50), (30, 1000), (250, 250), (1000, 1000), (5000, 10_000)):
        for auc in (0.633, 0.9, 0.98):
            settings = f"{num_positive:,} positive and {num_negative:,} negative images, {auc}"
            yield IntervalCase("ROC-AUC", settings, auc, _auc(num_positive, num_negative, auc))
    for n, num_classes, prevalence, separation in ((1000, 5, 0.05, 1.5), (2000, 10, 0.05, 2.0), (5000, 3, 0.08, 2.0)):
        sizes = n, num_classes, prevalence, separation
        for num_points in (None, 11):
            name = "mean average precision" + (", 11 points" if num_points else "")
            settings = f"{n:,} images, {num_classes} classes of {prevalence:.0%}"
            yield IntervalCase(
                name, settings, partial(_mean_precision, sizes, num_points), _precision(sizes, num_points)
            )


def _auc(num_positive: int, num_negative: int, auc: float):
    is_positive_N = np.arange(num_positive + num_negative) < num_positive
    shift_N = norm.ppf(auc) * math.sqrt(2) * is_positive_N
    return lambda seed: roc_auc(np.random.default_rng(seed).normal(size=len(shift_N)) + shift_N, is_positive_N)


def _draw(
    n: int, num_classes: int, prevalence: float, separation: float, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    label_NC = rng.random((n, num_classes)) < prevalence
    common_N1 = 0.3 * rng.normal(size=(n, 1))
    score_NC = rng.normal(size=(n, num_classes)) + common_N1 + separation * label_NC
    return score_NC.astype(np.float32), label_NC


def _mean_precision(sizes: tuple[int, int, float, float], num_points: int | None) -> float:
    """Return the mean score over datasets of this size, of which the interval is."""
    rng = np.random.default_rng(10**6)
    return float(np.mean([average_precisions(*_draw(*sizes, rng), num_points=num_points).mean() for _ in range(2000)]))


def _precision(sizes: tuple[int, int, float, float], num_points: int | None):
    def draw(seed: int) -> Score:
        score_NC, label_NC = _draw(*sizes, np.random.default_rng(seed))
        return mean_average_precision(score_NC, label_NC, num_points=num_points, seed=seed)

    return draw
