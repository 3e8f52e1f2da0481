"""Calibrated probabilities, and the threshold of "none of these"."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from scipy.stats import t as student

from zebra.errors import DataError
from zebra.protocols.metrics import NUM_RESAMPLES, Z95
from zebra.protocols.zero_shot import ROWS_PER_BLOCK, cosines_to_classes
from zebra.values import Score

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
    gap_N = correct_N - confidence_N
    return float(np.abs(_sum_by_bin(assign_bins(confidence_N), gap_N)).sum() / len(label_N))


def assign_bins(confidence_N: NDArray[np.floating]) -> NDArray[np.int64]:
    """Return the number of the bin of each confidence, of 15 bins of equal width (Guo et al. 2017)."""
    return np.minimum((confidence_N * NUM_BINS).astype(np.int64), NUM_BINS - 1)


@dataclass(frozen=True, slots=True)
class Probabilities:
    """How a classifier's probabilities agree with the labels, image by image."""

    confidence_N: NDArray[np.float64]
    """Probability of the predicted class."""
    correct_N: NDArray[np.bool_]
    """Whether the predicted class is the true one."""
    brier_N: NDArray[np.float64]
    """Squared distance of the probabilities from the true class, summed over the classes: from 0 to 2."""
    nll_N: NDArray[np.float64]
    """Negative log likelihood of the true class, in nats."""

    def scores(self) -> dict[str, Score]:
        """Return ece, ece_adaptive, brier and nll."""
        bin_N, rank_N = assign_bins(self.confidence_N), np.empty(len(self.confidence_N), np.int64)
        rank_N[np.argsort(self.confidence_N, kind="stable")] = np.arange(len(rank_N))
        gap_N = self.correct_N - self.confidence_N
        return {
            "ece": _calibration_score(bin_N, gap_N),
            "ece_adaptive": _calibration_score(rank_N * NUM_BINS // len(rank_N), gap_N),
            "brier": _positive_mean(self.brier_N),
            "nll": _positive_mean(self.nll_N),
        }

    def expected_error_if_calibrated(self) -> float:
        """Return the mean ECE of a perfectly calibrated classifier with these confidences: it is 0 on infinite data."""
        variance_B = _sum_by_bin(assign_bins(self.confidence_N), self.confidence_N * (1 - self.confidence_N))
        return math.sqrt(2 / math.pi) * float(np.sqrt(np.maximum(variance_B, 0)).sum()) / len(self.confidence_N)


def compute_probabilities(
    image_NE: NDArray[np.float32], class_CE: NDArray[np.float32], label_N: NDArray[np.int64], scale: float
) -> Probabilities:
    """Compare softmax(scale · cosines) with the labels.

    Args:
        image_NE: Unit vectors of the images.
        class_CE: A unit vector for each class; of classes with equal vectors, the first is predicted.
        label_N: Class indices.
        scale: Factor of the cosines: the model's, or that divided by a temperature.

    Raises:
        DataError: There are no images, or a vector contains NaN.
    """
    if not len(image_NE):
        raise DataError("calibration needs labeled images; got 0")
    parts = []
    for start in range(0, len(image_NE), ROWS_PER_BLOCK):
        label_B = label_N[start : start + ROWS_PER_BLOCK]
        logit_BC = scale * cosines_to_classes(image_NE[start : start + ROWS_PER_BLOCK], class_CE).astype(np.float64)
        log_probability_BC = log_softmax(logit_BC, axis=1)
        probability_BC, rows = np.exp(log_probability_BC), np.arange(len(label_B))
        true_B = probability_BC[rows, label_B]
        brier_B = np.einsum("bc,bc->b", probability_BC, probability_BC) - 2 * true_B + 1
        is_correct_B = logit_BC.argmax(axis=1) == label_B
        parts.append((probability_BC.max(axis=1), is_correct_B, brier_B, -log_probability_BC[rows, label_B]))
    confidence_N, correct_N, brier_N, nll_N = (np.concatenate(blocks) for blocks in zip(*parts, strict=True))
    if np.isnan(nll_N).any():
        raise DataError("a probability is NaN. The model has diverged.")
    return Probabilities(confidence_N, correct_N, brier_N, nll_N)


def _sum_by_bin(bin_N: NDArray[np.int64], value_N: NDArray[np.floating]) -> NDArray[np.float64]:
    sum_B: NDArray[np.float64] = np.bincount(bin_N, weights=value_N, minlength=NUM_BINS).astype(np.float64)
    return sum_B


def _calibration_score(bin_N: NDArray[np.int64], gap_N: NDArray[np.float64]) -> Score:
    """Return the sum over the bins of the absolute mean gap.

    The interval covers the mean score over datasets of this size, which is above the error on infinite data: noise in a
    bin adds to its gap, whatever its sign. Its width is that of the error for normal gaps, with the covariance of the
    bins, at 1,000 draws.
    """
    n = len(gap_N)
    gap_B = _sum_by_bin(bin_N, gap_N) / n
    value = float(np.abs(gap_B).sum())
    covariance_BB = (np.diag(_sum_by_bin(bin_N, gap_N**2) / n) - np.outer(gap_B, gap_B)) / n
    draws_DB = np.random.default_rng(0).multivariate_normal(gap_B, covariance_BB, NUM_RESAMPLES, method="eigh")
    half_width = Z95 * float(np.abs(draws_DB).sum(axis=1).std(ddof=1))
    return Score(value, max(value - half_width, 0.0), min(value + half_width, 1.0), n)


def _positive_mean(value_N: NDArray[np.float64]) -> Score:
    """Return the mean of values above 0 with an interval on its logarithm, because large values are rare."""
    n, value = len(value_N), float(value_N.mean())
    if n == 1 or value == 0:
        return Score(value, 0.0, math.inf if n == 1 else value, n)
    half_width = float(student.ppf(0.975, n - 1) * value_N.std(ddof=1)) / math.sqrt(n) / value
    return Score(value, value * math.exp(-half_width), value * math.exp(half_width), n)
