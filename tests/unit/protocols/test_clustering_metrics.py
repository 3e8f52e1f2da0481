"""Agreement of clusters and classes, against scikit-learn."""

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from sklearn import metrics

from zebra.errors import DataError
from zebra.protocols.clustering_metrics import score_clusters

NO_RERUNS = np.empty((0, 0), np.int64)


def draw(n=400, num_classes=6, num_clusters=5, noise=0.4, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, num_classes, n)
    clusters = np.where(rng.random(n) < noise, rng.integers(0, num_clusters, n), labels % num_clusters)
    return labels, clusters


@pytest.mark.parametrize("seed", range(5))
def test_the_scores_are_those_of_scikit_learn(seed):
    labels, clusters = draw(n=20 + 40 * seed, seed=seed)
    scores = score_clusters(labels, clusters, NO_RERUNS)
    assert scores["v_measure"].value == pytest.approx(metrics.v_measure_score(labels, clusters), abs=1e-12)
    assert scores["v_measure"].value == pytest.approx(metrics.normalized_mutual_info_score(labels, clusters), abs=1e-12)
    assert scores["ari"].value == pytest.approx(metrics.adjusted_rand_score(labels, clusters), abs=1e-12)
    counts = metrics.confusion_matrix(labels, clusters)
    assert scores["accuracy"].value == counts[linear_sum_assignment(counts, maximize=True)].sum() / len(labels)


def test_the_numbers_of_clusters_have_no_meaning():
    labels, clusters = draw()
    renamed = np.array([7, -2, 30, 11, 5])[clusters]
    assert score_clusters(labels, renamed, NO_RERUNS) == score_clusters(labels, clusters, NO_RERUNS)


@pytest.mark.parametrize("name", ["v_measure", "ari", "accuracy"])
def test_the_interval_of_given_clusters_is_as_wide_as_that_of_a_bootstrap(name):
    labels, clusters = draw()
    score = score_clusters(labels, clusters, NO_RERUNS)[name]
    rng = np.random.default_rng(1)
    rows = [rng.integers(0, len(labels), len(labels)) for _ in range(300)]
    resamples = [score_clusters(labels[row], clusters[row], NO_RERUNS)[name].value for row in rows]
    assert (score.high - score.low) / 2 == pytest.approx(1.96 * np.std(resamples), rel=0.15)


def test_runs_that_end_elsewhere_widen_the_interval():
    labels, clusters = draw()
    other = draw(noise=0.7)[1]
    narrow = score_clusters(labels, clusters, np.stack([clusters] * 4))["ari"]
    wide = score_clusters(labels, clusters, np.stack([clusters, other, clusters, other]))["ari"]
    assert narrow.value == wide.value
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)


def test_perfect_clusters_have_the_highest_scores():
    labels = np.arange(30) % 3
    scores = score_clusters(labels, labels + 5, labels[None])
    assert {name: score.value for name, score in scores.items()} == pytest.approx(dict.fromkeys(scores, 1.0))
    assert scores["accuracy"].low < 1


def test_one_class_is_refused():
    with pytest.raises(DataError, match="at least two classes"):
        score_clusters(np.zeros(5, np.int64), np.arange(5), NO_RERUNS)
