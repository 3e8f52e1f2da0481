"""Calibrated probabilities, and the threshold of "none of these"."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

ACCEPTANCE = 0.95
"""Share of the images of known classes that the threshold accepts."""
MAX_LOG_TEMPERATURE = 5.0
NUM_BINS = 15


def fit_temperature(logit_NC: NDArray[np.floating], label_N: NDArray[np.int64]) -> float:
    """Return the T that minimizes the cross-entropy of softmax(logits / T) (Guo et al. 2017, arXiv 1706.04599).

    As in Platt scaling, each image counts a little, 1 / (N + 2), for the other classes: otherwise T would be 0 if all N
    images are classified correctly.

    Args:
        logit_NC: Logits of images that the classifier was not fitted to.
        label_N: Their classes.
    """
    n, num_classes = logit_NC.shape
    if num_classes == 1:
        return 1.0
    target_NC = np.full(logit_NC.shape, 1 / (n + 2) / (num_classes - 1))
    target_NC[np.arange(n), label_N] = (n + 1) / (n + 2)

    def loss(log_temperature: float) -> float:
        return float(-(target_NC * log_softmax(logit_NC / np.exp(log_temperature), axis=1)).sum() / n)

    limits = (-MAX_LOG_TEMPERATURE, MAX_LOG_TEMPERATURE)
    return float(np.exp(minimize_scalar(loss, bounds=limits, method="bounded").x))


def acceptance_threshold(score_N: NDArray[np.floating], acceptance: float = ACCEPTANCE) -> float:
    """Return the largest of the scores that at least the share `acceptance` of them reaches."""
    return float(np.quantile(score_N, 1 - acceptance, method="lower"))


def calibration_error(logit_NC: NDArray[np.floating], label_N: NDArray[np.int64], temperature: float = 1.0) -> float:
    """Return the expected calibration error: the mean gap of confidence and accuracy, over 15 bins of confidence."""
    probability_NC = softmax(logit_NC / temperature, axis=1)
    confidence_N, correct_N = probability_NC.max(axis=1), probability_NC.argmax(axis=1) == label_N
    bin_N = np.minimum((confidence_N * NUM_BINS).astype(np.int64), NUM_BINS - 1)
    gap_N = correct_N - confidence_N
    return float(np.abs(np.bincount(bin_N, weights=gap_N, minlength=NUM_BINS)).sum() / len(label_N))
