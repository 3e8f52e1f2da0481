"""Ranks of images by images, against scikit-learn and the formula of the revisited Oxford and Paris benchmarks."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from zebra.errors import DataError
from zebra.protocols import image_retrieval
from zebra.protocols.image_retrieval import retrieve_from_gallery, retrieve_same_label


def draw_unit(n, width=6, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def draw_labels(n, num_classes=9, seed=1):
    return np.random.default_rng(seed).permutation(np.arange(n) % num_classes)


def score_like_the_authors(ranking, positives, ignored, ks=(1, 5, 10)):
    """Return average precision and precision at each k of one query: trapezoids between the ranks, junk removed."""
    kept = [image for image in ranking if image not in set(ignored.tolist())]
    places = [place for place, image in enumerate(kept) if image in set(positives.tolist())]
    area = 0.0
    for found, place in enumerate(places):
        left = found / place if place else 1.0
        area += (left + (found + 1) / (place + 1)) / 2 / len(positives)
    cutoffs = [min(places[-1] + 1, k) for k in ks]
    return area, [sum(place < k for place in places) / k for k in cutoffs]


def test_average_precision_is_that_of_scikit_learn():
    vectors, labels = draw_unit(60), draw_labels(60)
    result = retrieve_same_label(vectors, labels)
    cosines = vectors @ vectors.T
    for query, ap in zip(result.query_Q, result.ap_Q, strict=True):
        others = np.arange(60) != query
        expected = average_precision_score(labels[others] == labels[query], cosines[query, others])
        assert ap == pytest.approx(expected, abs=1e-9)


def test_recall_counts_queries_with_a_positive_among_the_first():
    vectors, labels = draw_unit(60), draw_labels(60)
    scores = retrieve_same_label(vectors, labels).scores()
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -2)
    hits = labels[np.argsort(-cosines, axis=1)] == labels[:, None]
    for k in (1, 5, 10):
        assert scores[f"recall@{k}"].value == pytest.approx(hits[:, :k].any(axis=1).mean())


@pytest.mark.parametrize("seed", range(3))
def test_the_scores_of_a_gallery_with_junk_are_those_of_the_revisited_benchmarks(seed):
    rng = np.random.default_rng(seed)
    queries, gallery = draw_unit(7, seed=seed), draw_unit(50, seed=10 + seed)
    kinds = [rng.permutation(50) for _ in queries]
    positives, ignored = [kind[: 1 + seed * 4] for kind in kinds], [kind[20:35] for kind in kinds]
    result = retrieve_from_gallery(queries, gallery, positives, ignored)
    rankings = np.argsort(-(queries @ gallery.T), axis=1)
    expected = [score_like_the_authors(*args) for args in zip(rankings.tolist(), positives, ignored, strict=True)]
    assert result.trapezoid_ap_Q == pytest.approx([area for area, _ in expected])
    assert result.precision_QK == pytest.approx(np.array([precisions for _, precisions in expected]))


def test_queries_without_a_positive_are_left_out():
    vectors = draw_unit(6)
    result = retrieve_same_label(vectors, np.array([0, 0, 1, 1, 2, 3]))
    assert result.query_Q.tolist() == [0, 1, 2, 3]
    gallery = retrieve_from_gallery(
        vectors[:2], vectors[2:], [np.array([], int), np.array([1])], [np.array([], int)] * 2
    )
    assert gallery.query_Q.tolist() == [1]


def test_a_tie_counts_against_the_model():
    vectors = np.ones((4, 1), np.float32)
    result = retrieve_same_label(vectors, np.array([0, 0, 1, 1]))
    assert result.first_rank_Q.tolist() == [3] * 4
    assert result.scores()["recall@1"].value == 0


def test_the_size_of_a_block_has_no_effect(monkeypatch):
    vectors, labels = draw_unit(40), draw_labels(40)
    whole = retrieve_same_label(vectors, labels)
    monkeypatch.setattr(image_retrieval, "SCORES_PER_BLOCK", 90)
    blocks = retrieve_same_label(vectors, labels)
    assert np.array_equal(whole.query_Q, blocks.query_Q) and whole.ap_Q == pytest.approx(blocks.ap_Q)
    assert whole.gallery_influence_N == pytest.approx(blocks.gallery_influence_N)


def test_the_influence_of_a_gallery_image_is_the_derivative_by_its_weight():
    queries, gallery, labels = draw_unit(5, seed=3), draw_unit(30, seed=4), draw_labels(30, 4)
    positives = [np.flatnonzero(labels == query % 4) for query in range(5)]
    result = retrieve_from_gallery(queries, gallery, positives, [np.array([], int)] * 5)
    order = np.argsort(-(queries @ gallery.T), axis=1)

    def sum_of_precisions(weights):
        total = 0.0
        for query, ranking in enumerate(order):
            own = np.isin(ranking, positives[query]) * weights[ranking]
            total += (own * own.cumsum() / weights[ranking].cumsum()).sum() / own.sum()
        return total

    step = 1e-6
    for image in range(30):
        weights = np.ones(30)
        weights[image] += step
        derivative = (sum_of_precisions(weights) - sum_of_precisions(np.ones(30))) / step
        assert result.gallery_influence_N[image] == pytest.approx(derivative, abs=1e-4)


@pytest.mark.parametrize("is_sample", [False, True])
def test_intervals_contain_the_scores(is_sample):
    scores = retrieve_same_label(draw_unit(120), draw_labels(120, 30), is_sample=is_sample).scores()
    assert list(scores) == ["map", "recall@1", "recall@5", "recall@10"]
    assert all(0 < score.low < score.value < score.high < 1 for score in scores.values())


def test_a_sample_of_instances_of_unequal_difficulty_has_a_wider_interval():
    labels = draw_labels(120, 12)
    vectors = draw_unit(12, seed=9)[labels] + draw_unit(120) * np.linspace(0, 2, 12)[labels, None]
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    given, sampled = (
        retrieve_same_label(vectors, labels, is_sample=is_sample).scores()["map"] for is_sample in (False, True)
    )
    assert given.value == sampled.value
    assert sampled.high - sampled.low > 1.5 * (given.high - given.low)


def test_a_perfect_retrieval_has_an_interval_of_the_number_of_independent_queries():
    labels = np.arange(40) // 2
    vectors = np.eye(20, dtype=np.float32)[labels]
    score = retrieve_same_label(vectors, labels).scores()["recall@1"]
    assert (score.value, score.high) == (1, 1)
    assert score.low == pytest.approx(20 / (20 + 1.96**2), abs=1e-3)  # Wilson's for 20 pairs, which find one another


def test_bad_input_is_refused():
    with pytest.raises(DataError, match="a class with two images"):
        retrieve_same_label(draw_unit(3), np.arange(3))
    vectors = draw_unit(4)
    vectors[1, 0] = np.nan
    with pytest.raises(DataError, match="diverged"):
        retrieve_same_label(vectors, np.array([0, 0, 1, 1]))
