"""Counts in, scores with 95 % intervals out."""

import math

import numpy as np
from numpy.typing import NDArray

from zebra.errors import DataError
from zebra.values import Score

Z95 = 1.959963984540054


def proportion(correct: int, n: int) -> Score:
    """Return correct/n with its Wilson interval, which stays inside [0, 1] and honest near its ends.

    Raises:
        DataError: n is 0, so that there is nothing to average.
    """
    if n == 0:
        raise DataError("an accuracy over 0 samples is undefined; the data set is empty")
    share = correct / n
    spread = Z95 * math.sqrt(share * (1 - share) / n + Z95**2 / (4 * n**2))
    centre, norm = share + Z95**2 / (2 * n), 1 + Z95**2 / n
    # At 0 and n successes the exact end is 0 or 1; rounding must not push it past the value.
    low, high = min((centre - spread) / norm, share), max((centre + spread) / norm, share)
    return Score(value=share, low=max(0.0, low), high=min(1.0, high), n=n)


def mean_per_class(correct_N: NDArray[np.bool_], label_N: NDArray[np.int64]) -> Score:
    """Average the accuracy of each class that occurs; the interval treats classes as fixed, samples as drawn."""
    if len(label_N) == 0:
        raise DataError("a mean per class over 0 samples is undefined; the data set is empty")
    classes = np.unique(label_N)
    shares = np.array([correct_N[label_N == c].mean() for c in classes])
    counts = np.array([(label_N == c).sum() for c in classes])
    value = float(shares.mean())
    error = math.sqrt(float((shares * (1 - shares) / counts).sum())) / len(classes)
    return Score(value, max(0.0, value - Z95 * error), min(1.0, value + Z95 * error), len(label_N))


def confusion(predicted_N: NDArray[np.int64], label_N: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Count [C, C]: rows are true classes, columns predicted ones."""
    counts_CC = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(counts_CC, (label_N, predicted_N), 1)
    return counts_CC
