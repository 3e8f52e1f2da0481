"""Tests of all intervals against the equations that define them, and of the fields of a score."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t as student

from zebra.errors import DataError
from zebra.protocols.metrics import (
    average_scores,
    clustered_proportion,
    mean_average_precision,
    mean_per_class_accuracy,
    proportion,
    roc_auc,
    subtract_scores,
)
from zebra.values import Score

Z = 1.959963984540054


@given(st.integers(1, 40).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_ends_of_a_proportion_are_196_of_their_own_standard_errors_away(counts):
    num_correct, n = counts
    score = proportion(num_correct, n)
    assert (score.value, score.n) == (num_correct / n, n)
    for end in (score.low, score.high):
        if end not in (0.0, 1.0):
            assert abs(end - score.value) == pytest.approx(Z * math.sqrt(end * (1 - end) / n), rel=1e-9)


def test_clusters_of_different_sizes_count_by_their_variance():
    hits = np.array([1, 1, 1, 1, 0, 0, 0, 1, 1, 0, 1, 0], dtype=bool)
    clusters = np.array([7, 7, 7, 7, 2, 2, 2, 5, 5, 0, 0, 9])
    score = clustered_proportion(hits, clusters)
    value = 7 / 12
    sums = [
        sum(hit - value for hit, c in zip(hits, clusters, strict=True) if c == cluster) for cluster in (0, 2, 5, 7, 9)
    ]
    effective = value * (1 - value) / (sum(each**2 for each in sums) / 12**2)
    assert effective < 12
    assert score.value == pytest.approx(value)
    assert score.n == 12
    for end in (score.low, score.high):
        assert abs(end - value) == pytest.approx(Z * math.sqrt(end * (1 - end) / effective), rel=1e-9)


def test_a_single_sample_is_a_cluster_and_none_is_an_error():
    assert clustered_proportion(np.ones(1, bool), np.zeros(1, int)) == proportion(1, 1)
    with pytest.raises(DataError, match="0 samples"):
        clustered_proportion(np.zeros(0, bool), np.zeros(0, int))


def test_the_interval_of_a_mean_per_class_follows_from_its_formula():
    labels = np.array([0] * 9 + [1] * 4 + [2] * 2)
    correct = np.array([1] * 6 + [0] * 3 + [1, 0, 0, 0] + [1, 1], dtype=bool)
    score = mean_per_class_accuracy(correct, labels)
    overall = (9 + 2) / (15 + 4)
    counts = np.array([9, 4, 2])
    shares = np.array([(6 + overall) / 10, (1 + overall) / 5, (2 + overall) / 3])
    variances = shares * (1 - shares) / counts / (1 - counts / (counts + 1) ** 2)
    effective = shares.mean() * (1 - shares.mean()) / (variances.sum() / 9)
    quantile = student.ppf(0.975, variances.sum() ** 2 / (variances**2 / (counts + 1)).sum())
    assert score.value == pytest.approx((6 / 9 + 1 / 4 + 1) / 3)
    for end in (score.low, score.high):
        assert abs(end - score.value) == pytest.approx(quantile * math.sqrt(end * (1 - end) / effective), rel=1e-9)
    assert score.n == 15


def test_no_interval_leaves_0_and_1():
    certain = mean_per_class_accuracy(np.ones(3, bool), np.arange(3))
    assert (certain.value, certain.high) == (1.0, 1.0)
    score = mean_per_class_accuracy(np.zeros(3, bool), np.arange(3))
    assert (score.value, score.low) == (0.0, 0.0)
    areas = roc_auc(np.array([0.1, 0.6, 0.5, 0.9, 0.8, 0.7]), np.array([0, 0, 1, 1, 1, 1], dtype=bool))
    assert areas.value == 7 / 8
    assert 0.875 < areas.high < 1
    ranking = np.arange(8.0)[::-1, None]
    precision = mean_average_precision(ranking, np.isin(np.arange(8), (0, 7))[:, None])
    assert (precision.value, precision.n) == (0.625, 8)
    assert 0 < precision.low < 0.625 < precision.high < 1


def hanley_mcneil(area, m, n):
    """Return the standard error of an AUC under the exponential model (Newcombe 2006, method 5)."""
    balanced = (m + n) / 2 - 1
    spread = 1 + balanced * ((1 - area) / (2 - area) + area / (1 + area))
    return math.sqrt(area * (1 - area) * spread / (m * n))


@pytest.mark.parametrize(
    ("positive", "negative"),
    [([0.5], [0.1, 0.4, 0.7]), ([0.2, 0.6, 0.9], [0.5]), ([0.7, 0.8], [0.1, 0.2]), ([0.1, 0.2], [0.7, 0.8, 0.9])],
)
def test_without_a_variance_the_ends_of_an_auc_are_196_of_their_own_standard_errors_away(positive, negative):
    scores = np.array([*positive, *negative])
    kinds = np.arange(len(scores)) < len(positive)
    area = roc_auc(scores, kinds)
    assert area.n == len(scores)
    for end in (area.low, area.high):
        if end != area.value:
            error = hanley_mcneil(end, len(positive), len(negative))
            assert abs(end - area.value) == pytest.approx(Z * error, rel=1e-6)
        else:
            assert end in (0.0, 1.0)
    mirrored = roc_auc(-scores, kinds)
    assert (mirrored.low, mirrored.high) == (pytest.approx(1 - area.high), pytest.approx(1 - area.low))


def test_a_single_negative_is_enough_and_none_is_an_error():
    assert roc_auc(np.array([0.9, 0.1]), np.array([True, False])).value == 1.0
    with pytest.raises(DataError, match="2 positive and 0 negative"):
        roc_auc(np.array([0.9, 0.1]), np.array([True, True]))


def test_the_mean_and_the_difference_of_scores_add_distances_in_squares():
    first, second = Score(0.8, 0.7, 0.86, 100), Score(0.5, 0.46, 0.62, 50)
    mean = average_scores([first, second])
    assert (mean.value, mean.n) == (pytest.approx(0.65), 150)
    assert mean.value - mean.low == pytest.approx(math.hypot(0.1, 0.04) / 2)
    assert mean.high - mean.value == pytest.approx(math.hypot(0.06, 0.12) / 2)
    difference = subtract_scores(first, second)
    assert (difference.value, difference.n) == (pytest.approx(0.3), 100)
    assert difference.value - difference.low == pytest.approx(math.hypot(0.1, 0.12))
    assert difference.high - difference.value == pytest.approx(math.hypot(0.06, 0.04))
