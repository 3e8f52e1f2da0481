"""Tests of metrics and their intervals."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logit
from scipy.stats import norm
from scipy.stats import t as student
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
    label, predicted = rng.integers(0, 4, 60), rng.integers(0, 4, 60)
    label[:4] = range(4)
    assert mean_per_class_accuracy(predicted == label, label).value == pytest.approx(
        balanced_accuracy_score(label, predicted)
    )
    assert np.array_equal(
        confusion_matrix(predicted, label, 4), sklearn_metrics.confusion_matrix(label, predicted, labels=range(4))
    )


@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_top_k_classes_equal_a_stable_sort(seed, k):
    scores = np.random.default_rng(seed).integers(0, 4, (20, 6)).astype(np.float32)
    assert np.array_equal(top_k_classes(scores, k), np.argsort(-scores, axis=1, kind="stable")[:, :k])


def test_accuracy_per_class_always_has_an_interval():
    """With one sample per class, or only correct ones, the variance is unknown; the interval must not be a point."""
    labels = np.arange(100)
    mixed = mean_per_class_accuracy(labels % 2 == 0, labels)
    assert (mixed.low, mixed.high) == (pytest.approx(0.5 - 0.097, abs=5e-3), pytest.approx(0.5 + 0.097, abs=5e-3))
    assert 0.9 < mean_per_class_accuracy(np.ones(100, bool), labels).low < 0.99


def test_five_equal_samples_in_a_cluster_count_as_one():
    hits = np.arange(40) % 3 == 0
    clustered = clustered_proportion(hits.repeat(5), np.arange(40).repeat(5))
    unclustered = proportion(int(hits.sum()), 40)
    assert (clustered.low, clustered.high, clustered.n) == (
        pytest.approx(unclustered.low),
        pytest.approx(unclustered.high),
        200,
    )


def test_samples_in_clusters_of_one_give_the_interval_of_a_proportion():
    hits = np.arange(40) % 3 == 0
    assert clustered_proportion(hits, np.arange(40)).low == pytest.approx(proportion(14, 40).low)


def test_with_only_hits_the_clusters_are_counted():
    score = clustered_proportion(np.ones(200, bool), np.arange(40).repeat(5))
    assert score.low == pytest.approx(proportion(40, 40).low)


def make_scores_and_labels(seed, samples=60, classes=3):
    """Return scores with many ties, and labels with positive and negative samples in every class."""
    rng = np.random.default_rng(seed)
    label = rng.random((samples, classes)) < 0.3
    label[0], label[1] = True, False
    return (rng.normal(size=(samples, classes)) + label).round(1), label


@given(st.integers(0, 2**32 - 1))
def test_average_precision_equals_scikit_learn_with_ties(seed):
    scores, label = make_scores_and_labels(seed)
    expected = [average_precision_score(label[:, c], scores[:, c]) for c in range(3)]
    assert average_precisions(scores, label) == pytest.approx(expected, abs=1e-12)


def voc_2007(scores, label):
    """Compute the interpolated average precision of VOC 2007 by definition, with every score as threshold."""
    points = [(scores >= threshold, threshold) for threshold in np.unique(scores)]
    recall_precision = [(label[is_predicted].sum() * 10, label[is_predicted].mean()) for is_predicted, _ in points]
    levels = [level * label.sum() for level in range(11)]  # in tenths of the positives, which are exact integers
    return np.mean([max(p for r, p in recall_precision if r >= level) for level in levels])


@given(st.integers(0, 2**32 - 1))
def test_the_11_point_average_precision_agrees_with_its_definition(seed):
    scores, label = make_scores_and_labels(seed)
    expected = [voc_2007(scores[:, c], label[:, c]) for c in range(3)]
    assert average_precisions(scores, label, num_points=11) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("points", [None, 11])
def test_resamples_are_scored_as_if_their_samples_were_repeated(points):
    """The bootstrap weights samples; this test repeats them."""
    scores, label = make_scores_and_labels(0, samples=40)
    rng, resamples = np.random.default_rng(0), []
    for _ in range(1000):
        chosen = rng.integers(0, 40, 40)
        resamples.append(np.nanmean(average_precisions(scores[chosen], label[chosen], num_points=points)))
    half_width = 1.959964 * logit(resamples).std(ddof=1)
    score = mean_average_precision(scores, label, num_points=points)
    assert logit(score.low) == pytest.approx(logit(score.value) - half_width, abs=1e-5)
    assert logit(score.high) == pytest.approx(logit(score.value) + half_width, abs=1e-5)


@pytest.mark.parametrize("num_positive", [1, 5, 50])
def test_a_perfect_average_precision_has_the_interval_of_as_many_hits(num_positive):
    label = np.arange(100)[:, None] < num_positive
    score = mean_average_precision(-np.arange(100.0)[:, None], label)
    hits = mean_per_class_accuracy(np.ones(num_positive, bool), np.zeros(num_positive, np.int64))
    assert (score.value, score.low, score.high, score.n) == (1, hits.low, 1, 100)
    assert score.low < 1


def test_the_interval_of_map_covers_the_mean_over_datasets_of_this_size():
    """30 simulated datasets of 80 samples."""
    rng = np.random.default_rng(0)
    scores = []
    for _ in range(30):
        label = rng.random((80, 2)) < 0.2
        scores.append(mean_average_precision(rng.normal(size=(80, 2)) + 2 * label, label))
    mean = np.mean([score.value for score in scores])
    assert sum(score.low <= mean <= score.high for score in scores) >= 27


def test_a_class_without_images_is_left_out_of_the_mean():
    scores, label = make_scores_and_labels(1)
    label[:, 2] = False
    assert np.isnan(average_precisions(scores, label)).tolist() == [False, False, True]
    assert mean_average_precision(scores, label) == mean_average_precision(scores[:, :2], label[:, :2])


@given(st.integers(0, 2**32 - 1))
def test_auc_equals_scikit_learn(seed):
    scores, label = make_scores_and_labels(seed)
    auc = roc_auc(scores[:, 0], label[:, 0])
    assert auc.value == pytest.approx(roc_auc_score(label[:, 0], scores[:, 0]))
    assert 0 <= auc.low <= auc.value <= auc.high <= 1


def test_the_interval_of_the_auc_contains_those_of_delong_and_newcombe():
    """Positive samples with a wide distribution: DeLong's interval, on logits with Student's t, is the wider one."""
    rng = np.random.default_rng(0)
    scores, label = np.concatenate([rng.normal(1, 4, 8), rng.normal(0, 1, 60)]), np.arange(68) < 8
    beats = scores[label][:, None] > scores[~label]
    variance = np.array([beats.mean(1).var(ddof=1) / 8, beats.mean(0).var(ddof=1) / 60])
    degrees = variance.sum() ** 2 / (variance[0] ** 2 / 7 + variance[1] ** 2 / 59)
    value = beats.mean()
    half_width = student.ppf(0.975, degrees) * variance.sum() ** 0.5 / (value * (1 - value))
    auc = roc_auc(scores, label)
    assert auc.value == pytest.approx(value)
    assert logit(auc.low) == pytest.approx(logit(value) - half_width)
    assert logit(auc.high) == pytest.approx(logit(value) + half_width)


@pytest.mark.parametrize(("num_positive", "num_negative", "true"), [(5, 100, 0.9), (30, 300, 0.98), (50, 50, 0.98)])
def test_the_interval_of_an_auc_near_1_covers_the_true_value(num_positive, num_negative, true):
    """300 simulated datasets with normal scores. DeLong's interval without the transform covers 0.74 to 0.87."""
    rng, num_covered = np.random.default_rng(0), 0
    label = np.arange(num_positive + num_negative) < num_positive
    for _ in range(300):
        auc = roc_auc(rng.normal(size=len(label)) + label * norm.ppf(true) * 2**0.5, label)
        num_covered += auc.low <= true <= auc.high
    assert num_covered / 300 > 0.93


@pytest.mark.parametrize("num_positive", [1, 2, 20])
def test_equal_scores_of_all_samples_do_not_make_an_auc_certain(num_positive):
    auc = roc_auc(np.zeros(40), np.arange(40) < num_positive)
    assert auc.value == 0.5
    assert auc.low < 0.4
    assert auc.high > 0.6


@pytest.mark.parametrize(("sizes", "accuracies"), [((1,) * 100, (0.2, 0.8)), ((5, 88, 170, 500), (0.4, 0.9))])
def test_the_interval_of_a_mean_per_class_covers_the_true_value(sizes, accuracies):
    """400 simulated datasets of 100 classes with one sample each, or of a small class beside large ones."""
    rng, num_covered = np.random.default_rng(1), 0
    labels = np.repeat(np.arange(len(sizes)), sizes)
    true_C = np.linspace(*accuracies, len(sizes))
    for _ in range(400):
        score = mean_per_class_accuracy(rng.random(len(labels)) < true_C[labels], labels)
        num_covered += score.low <= true_C.mean() <= score.high
    assert num_covered / 400 >= 0.93


def test_a_perfect_auc_has_an_interval():
    """DeLong's variance is 0; at the end of Newcombe's interval, the AUC is 1.96 of its own standard errors away."""
    auc = roc_auc(np.arange(10.0), np.arange(10) >= 5)
    a = auc.low
    q1, q2 = a / (2 - a), 2 * a**2 / (1 + a)
    hanley = (a * (1 - a) + 4 * (q1 - a**2) + 4 * (q2 - a**2)) / 25
    assert (auc.value, auc.high) == (1, 1)
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
