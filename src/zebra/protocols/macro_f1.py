"""Macro F1: the mean F1 score over classes."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from zebra.errors import DataError
from zebra.protocols.metrics import NUM_RESAMPLES, Z95, mean_per_class_accuracy
from zebra.values import Score


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
