"""Scores and their intervals."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics
from sklearn.metrics import average_precision_score, balanced_accuracy_score, roc_auc_score

from zebra.errors import DataError
from zebra.protocols.metrics import (
    average_precisions,
    clustered_proportion,
    confusion_matrix,
    mean_average_precision,
    mean_per_class_accuracy,
    proportion,
    roc_auc,
    top_k_classes,
)


def test_wilson_interval_of_a_textbook_case():
    """Newcombe 1998, table I: 81 of 263 gives 0.2553 to 0.3662."""
    score = proportion(81, 263)
    assert (score.low, score.high) == (pytest.approx(0.2553, abs=5e-5), pytest.approx(0.3662, abs=5e-5))


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_contains_the_value_and_is_inside_0_and_1(counts):
    score = proportion(*counts)
    assert 0 <= score.low <= score.value <= score.high <= 1
    assert score.low < score.high


def test_an_accuracy_over_0_samples_is_an_error():
    with pytest.raises(DataError, match="0 samples"):
        proportion(0, 0)
    with pytest.raises(DataError, match="0 samples"):
        mean_per_class_accuracy(np.zeros(0, bool), np.zeros(0, np.int64))


@given(st.integers(0, 2**32 - 1))
def test_accuracy_per_class_and_confusion_matrix_equal_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    truth, guess = rng.integers(0, 4, 60), rng.integers(0, 4, 60)
    truth[:4] = range(4)
    assert mean_per_class_accuracy(guess == truth, truth).value == pytest.approx(
        balanced_accuracy_score(truth, guess)
    )
    assert np.array_equal(
        confusion_matrix(guess, truth, 4), sklearn_metrics.confusion_matrix(truth, guess, labels=range(4))
    )


@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_top_k_classes_equal_a_stable_sort(seed, k):
    scores = np.random.default_rng(seed).integers(0, 4, (20, 6)).astype(np.float32)
    assert np.array_equal(top_k_classes(scores, k), np.argsort(-scores, axis=1, kind="stable")[:, :k])


def test_accuracy_per_class_always_has_an_interval():
    """Of one sample a class, or all right, nothing is known of the spread; the interval must not shrink to a point."""
    labels = np.arange(100)
    mixed = mean_per_class_accuracy(labels % 2 == 0, labels)
    assert (mixed.low, mixed.high) == (
        pytest.approx(0.5 - 0.085, abs=5e-3),
        pytest.approx(0.5 + 0.085, abs=5e-3),
    )
    assert 0.9 < mean_per_class_accuracy(np.ones(100, bool), labels).low < 0.99


def test_five_equal_samples_in_a_cluster_count_as_one():
    hits = np.arange(40) % 3 == 0
    alike = clustered_proportion(hits.repeat(5), np.arange(40).repeat(5))
    once = proportion(int(hits.sum()), 40)
    assert (alike.low, alike.high, alike.n) == (pytest.approx(once.low), pytest.approx(once.high), 200)


def test_samples_in_clusters_of_one_give_the_interval_of_a_proportion():
    hits = np.arange(40) % 3 == 0
    assert clustered_proportion(hits, np.arange(40)).low == pytest.approx(proportion(14, 40).low)


def test_with_only_hits_the_clusters_are_counted():
    score = clustered_proportion(np.ones(200, bool), np.arange(40).repeat(5))
    assert score.low == pytest.approx(proportion(40, 40).low)


def scores_and_truth(seed, samples=60, classes=3):
    """Coarse scores, so that many tie; every class has both kinds."""
    rng = np.random.default_rng(seed)
    truth = rng.random((samples, classes)) < 0.3
    truth[0], truth[1] = True, False
    return (rng.normal(size=(samples, classes)) + truth).round(1), truth


@given(st.integers(0, 2**32 - 1))
def test_average_precision_equals_scikit_learn_with_ties(seed):
    scores, truth = scores_and_truth(seed)
    expected = [average_precision_score(truth[:, c], scores[:, c]) for c in range(3)]
    assert average_precisions(scores, truth) == pytest.approx(expected, abs=1e-12)


def voc_2007(scores, truth):
    """The interpolated average precision of the challenge, from its definition: every threshold is a point."""
    points = [(scores >= threshold, threshold) for threshold in np.unique(scores)]
    recall_precision = [(truth[taken].sum() * 10, truth[taken].mean()) for taken, _ in points]
    levels = [
        level * truth.sum() for level in range(11)
    ]  # in tenths of the positives, so that nothing rounds
    return np.mean([max(p for r, p in recall_precision if r >= level) for level in levels])


@given(st.integers(0, 2**32 - 1))
def test_the_11_point_average_precision_agrees_with_its_definition(seed):
    scores, truth = scores_and_truth(seed)
    expected = [voc_2007(scores[:, c], truth[:, c]) for c in range(3)]
    assert average_precisions(scores, truth, num_points=11) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("points", [None, 11])
def test_resamples_are_scored_as_if_their_samples_were_repeated(points):
    """The bootstrap weighs samples in place of repeating them; here it is done the long way."""
    scores, truth = scores_and_truth(0, samples=40)
    rng, drawn = np.random.default_rng(0), []
    for _ in range(1000):
        chosen = rng.integers(0, 40, 40)
        drawn.append(np.nanmean(average_precisions(scores[chosen], truth[chosen], num_points=points)))
    low, middle, high = np.quantile(drawn, (0.025, 0.5, 0.975))
    score = mean_average_precision(scores, truth, num_points=points)
    assert score.low == pytest.approx(score.value + low - middle, abs=1e-6)
    assert score.high == pytest.approx(score.value + high - middle, abs=1e-6)


def test_a_class_without_images_is_left_out_of_the_mean():
    scores, truth = scores_and_truth(1)
    truth[:, 2] = False
    assert np.isnan(average_precisions(scores, truth)).tolist() == [False, False, True]
    assert mean_average_precision(scores, truth) == mean_average_precision(scores[:, :2], truth[:, :2])


@given(st.integers(0, 2**32 - 1))
def test_auc_equals_scikit_learn(seed):
    scores, truth = scores_and_truth(seed)
    area = roc_auc(scores[:, 0], truth[:, 0])
    assert area.value == pytest.approx(roc_auc_score(truth[:, 0], scores[:, 0]))
    assert 0 <= area.low <= area.value <= area.high <= 1


def test_the_interval_of_the_auc_is_delongs_by_definition():
    scores, truth = (array[:, 0] for array in scores_and_truth(2))
    beats = (scores[truth][:, None] > scores[~truth]) + 0.5 * (scores[truth][:, None] == scores[~truth])
    variance = beats.mean(1).var(ddof=1) / truth.sum() + beats.mean(0).var(ddof=1) / (~truth).sum()
    area = roc_auc(scores, truth)
    assert area.high - area.value == pytest.approx(1.959964 * variance**0.5, rel=1e-6)


def test_a_perfect_auc_has_an_interval():
    """DeLong's variance is 0 there; at Newcombe's end the true area is 1.96 of its own standard errors away."""
    area = roc_auc(np.arange(10.0), np.arange(10) >= 5)
    a = area.low
    q1, q2 = a / (2 - a), 2 * a**2 / (1 + a)
    hanley = (a * (1 - a) + 4 * (q1 - a**2) + 4 * (q2 - a**2)) / 25
    assert (area.value, area.high) == (1, 1)
    assert 1 - a == pytest.approx(1.959964 * hanley**0.5, rel=1e-6)


def test_undefined_scores_are_refused():
    with pytest.raises(DataError, match="0 positive and 3 negative"):
        roc_auc(np.arange(3.0), np.zeros(3, bool))
    with pytest.raises(DataError, match="NaN"):
        roc_auc(np.array([0, np.nan]), np.array([True, False]))
    with pytest.raises(DataError, match="NaN"):
        mean_average_precision(np.full((2, 1), np.nan), np.ones((2, 1), bool))
    with pytest.raises(DataError, match="got none"):
        mean_average_precision(np.zeros((2, 1)), np.zeros((2, 1), bool))
