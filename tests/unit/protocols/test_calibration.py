"""Temperatures and the threshold of "none of these"."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import softmax

from zebra.protocols.calibration import acceptance_threshold, calibration_error, fit_temperature


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
