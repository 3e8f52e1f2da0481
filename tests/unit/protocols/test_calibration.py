"""Temperatures and the threshold of "none of these"."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import softmax
from sklearn.metrics import brier_score_loss, log_loss

from zebra.errors import DataError
from zebra.protocols.calibration import acceptance_threshold, calibration_error, compute_probabilities, fit_temperature


def draw_calibrated(num_images=4000, num_classes=5, seed=0):
    """Return logits and labels that are drawn from their softmax."""
    rng = np.random.default_rng(seed)
    logit_NC = 2 * rng.normal(size=(num_images, num_classes))
    label_N = np.array([rng.choice(num_classes, p=row) for row in softmax(logit_NC, axis=1)])
    return logit_NC, label_N


@pytest.mark.parametrize("factor", [0.1, 1.0, 7.0])
def test_the_temperature_undoes_a_scaling_of_calibrated_logits(factor):
    logit_NC, label_N = draw_calibrated()
    assert fit_temperature(factor * logit_NC, label_N) == pytest.approx(factor, rel=0.1)


def test_the_temperature_calibrates():
    logit_NC, label_N = draw_calibrated()
    assert calibration_error(logit_NC, label_N) < 0.03
    assert calibration_error(5 * logit_NC, label_N) > 0.1
    assert calibration_error(5 * logit_NC, label_N, fit_temperature(5 * logit_NC, label_N)) < 0.03


@pytest.mark.parametrize("n", [4, 40])
def test_a_classifier_without_errors_is_as_sure_as_its_number_of_images_allows(n):
    label_N = np.arange(n) % 4
    logit_NC = 10.0 * np.eye(4)[label_N]
    probability = softmax(logit_NC[0] / fit_temperature(logit_NC, label_N)).max()
    assert probability == pytest.approx((n + 1) / (n + 2), abs=1e-3)


def test_one_class_needs_no_temperature():
    assert fit_temperature(np.ones((3, 1)), np.zeros(3, dtype=np.int64)) == 1


@given(arrays(np.float32, st.integers(1, 200), elements=st.floats(-1, 1, width=32)))
def test_at_least_95_percent_of_the_scores_reach_the_threshold(score_N):
    threshold = acceptance_threshold(score_N)
    assert (score_N >= threshold).mean() >= 0.95
    if len(score_N) > 20 and len(np.unique(score_N)) == len(score_N):
        assert (score_N > threshold).mean() < 0.97


def draw_images(num_images=600, num_classes=6, seed=0):
    """Return image vectors, class vectors and labels that are drawn from the softmax of 8 times the cosines."""
    rng = np.random.default_rng(seed)
    images, classes = (rng.normal(size=(n, 5)).astype(np.float32) for n in (num_images, num_classes))
    images, classes = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (images, classes))
    labels = np.array([rng.choice(num_classes, p=row) for row in softmax(8.0 * (images @ classes.T), axis=1)])
    return images, classes, labels


def mean_gap(bins, confidences, correct):
    return sum(abs(np.sum(correct[bins == number] - confidences[bins == number])) for number in np.unique(bins)) / len(
        bins
    )


def test_the_scores_of_probabilities_are_those_of_scikit_learn():
    images, classes, labels = draw_images()
    result = compute_probabilities(images, classes, labels, 12.0)
    scores, probability_NC = result.scores(), softmax(12.0 * (images @ classes.T).astype(np.float64), axis=1)
    probability_NC /= probability_NC.sum(axis=1, keepdims=True)
    brier = brier_score_loss(labels, probability_NC, scale_by_half=False, labels=range(6))
    assert scores["brier"].value == pytest.approx(brier)
    assert scores["nll"].value == pytest.approx(log_loss(labels, probability_NC))
    confidences, correct = probability_NC.max(axis=1), probability_NC.argmax(axis=1) == labels
    assert scores["ece"].value == pytest.approx(mean_gap(np.floor(confidences * 15), confidences, correct))
    assert scores["ece"].value == pytest.approx(calibration_error(12.0 * (images @ classes.T), labels))
    ranks = np.argsort(np.argsort(confidences))
    assert scores["ece_adaptive"].value == pytest.approx(mean_gap(ranks // 40, confidences, correct))
    assert all(score.low < score.value < score.high for score in scores.values())


def test_the_error_of_a_calibrated_classifier_is_that_of_noise():
    results = [compute_probabilities(*draw_images(seed=seed), 8.0) for seed in range(30)]
    mean = np.mean([result.scores()["ece"].value for result in results])
    assert np.mean([result.expected_error_if_calibrated() for result in results]) == pytest.approx(mean, rel=0.1)


def test_classes_with_equal_vectors_share_their_probability():
    images, classes, labels = draw_images()
    result = compute_probabilities(images, np.concatenate([classes, classes]), labels, 8.0)
    assert np.array_equal(result.correct_N, compute_probabilities(images, classes, labels, 8.0).correct_N)
    assert result.confidence_N.max() <= 0.5


def test_no_images_and_diverged_vectors_are_refused():
    images, classes, labels = draw_images()
    with pytest.raises(DataError, match="got 0"):
        compute_probabilities(images[:0], classes, labels[:0], 1.0)
    with pytest.raises(DataError, match="diverged"):
        compute_probabilities(images * np.float32(np.nan), classes, labels, 1.0)
