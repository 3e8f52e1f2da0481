"""Detection of unknown images, against scikit-learn and the definitions of MCM."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import logsumexp, softmax
from sklearn.metrics import average_precision_score, roc_auc_score

from zebra.errors import DataError
from zebra.protocols.ood import DetectionResult, average_precision, compute_detection_scores, false_positive_rate

coarse_scores = arrays(np.float64, st.integers(1, 40), elements=st.integers(-6, 6).map(lambda value: value / 4))


@given(coarse_scores, coarse_scores)
def test_the_area_under_the_precision_recall_curve_is_that_of_scikit_learn(positives, negatives):
    labels = np.repeat([1, 0], [len(positives), len(negatives)])
    score = average_precision(positives, negatives)
    assert score.value == pytest.approx(average_precision_score(labels, np.concatenate([positives, negatives])))
    assert 0 <= score.low <= score.value <= score.high <= 1


@given(coarse_scores, coarse_scores)
def test_the_false_positive_rate_is_at_the_threshold_with_the_nearest_recall(positives, negatives):
    thresholds = [t for t in sorted({*positives.tolist(), *negatives.tolist()}) if t >= positives.min()]
    distances = [abs(np.count_nonzero(positives >= t) / len(positives) - 0.95) for t in thresholds]
    threshold = thresholds[distances.index(min(distances))]
    score = false_positive_rate(positives, negatives)
    assert score.value == np.mean(negatives >= threshold)
    assert 0 <= score.low <= score.value <= score.high <= 1


def test_the_scores_of_cosines():
    rng = np.random.default_rng(0)
    images, classes = rng.normal(size=(2, 5, 4)).astype(np.float32)
    images, classes = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (images, classes))
    cosines = (images @ classes.T).astype(np.float64)
    scores = compute_detection_scores(images, classes, 20.0)
    assert scores["mcm"] == pytest.approx(softmax(cosines, axis=1).max(axis=1))
    assert scores["max_cosine"] == pytest.approx(cosines.max(axis=1))
    assert scores["energy"] == pytest.approx(logsumexp(cosines, axis=1))
    assert scores["max_probability"] == pytest.approx(softmax(20 * cosines, axis=1).max(axis=1))


def test_each_detection_score_has_four_metrics_and_those_of_mcm_come_first():
    rng = np.random.default_rng(0)
    known, unknown = rng.normal(1, 1, 50), rng.normal(0, 1, 30)
    scores = DetectionResult({"mcm": known, "energy": -known}, {"mcm": unknown, "energy": -unknown}).scores()
    assert list(scores)[:4] == ["auroc", "fpr95", "aupr_in", "aupr_out"]
    labels, values = np.repeat([1, 0], [50, 30]), np.concatenate([known, unknown])
    assert scores["auroc"].value == pytest.approx(roc_auc_score(labels, values))
    assert scores["energy_auroc"].value == pytest.approx(1 - scores["auroc"].value)
    assert scores["aupr_out"].value == pytest.approx(average_precision_score(1 - labels, -values))


def test_perfect_detection_has_intervals():
    known, unknown = np.linspace(1, 2, 40), np.linspace(-1, 0, 25)
    scores = DetectionResult({"mcm": known}, {"mcm": unknown}).scores()
    assert [scores[name].value for name in ("auroc", "fpr95", "aupr_in", "aupr_out")] == [1, 0, 1, 1]
    assert scores["fpr95"].high > 0.05 and scores["aupr_in"].low < 0.95


def test_the_interval_of_the_false_positive_rate_includes_the_choice_of_the_threshold():
    rng = np.random.default_rng(0)
    unknown = rng.normal(0, 1, 20_000)
    few, many = (false_positive_rate(rng.normal(2, 1, n), unknown) for n in (200, 20_000))
    assert few.high - few.low > 5 * (many.high - many.low)


def test_bad_input_is_refused():
    with pytest.raises(DataError, match="two known classes"):
        compute_detection_scores(np.ones((2, 1), np.float32), np.ones((1, 1), np.float32), 1.0)
    with pytest.raises(DataError, match="known and unknown"):
        average_precision(np.ones(3), np.ones(0))
    with pytest.raises(DataError, match="NaN"):
        false_positive_rate(np.array([np.nan]), np.ones(2))
