"""Nearest neighbors without near copies, and the outliers and label errors that they show."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from zebra.search import neighbors
from zebra.search.label_errors import find_label_errors
from zebra.search.neighbors import find_neighbors


@pytest.fixture
def vectors_NE():
    """Return 300 unit vectors in three groups."""
    rng = np.random.default_rng(0)
    vectors = np.repeat(rng.standard_normal((3, 16)), 100, axis=0) + 0.4 * rng.standard_normal((300, 16))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_neighbors_are_those_of_comparing_all_vectors(vectors_NE, monkeypatch):
    monkeypatch.setattr(neighbors, "BLOCK_ROWS", 32)
    cosine_NN = vectors_NE @ vectors_NE.T
    np.fill_diagonal(cosine_NN, -2)
    monkeypatch.setattr(neighbors, "NEAR_COPY_FRACTION", 0)
    result = find_neighbors(vectors_NE, 5)
    assert (np.sort(result.index_NK) == np.sort(np.argsort(-cosine_NN)[:, :5])).all()
    assert result.distance_NK == pytest.approx(1 - np.sort(cosine_NN)[:, :-6:-1], abs=1e-5)


@pytest.mark.parametrize("num_copies", [0, 1, 8, 30])
def test_an_image_unlike_all_others_is_found_however_often_it_was_copied(vectors_NE, num_copies):
    strange = -vectors_NE.mean(axis=0) + np.eye(16)[3]
    rng = np.random.default_rng(1)
    copies = strange / np.linalg.norm(strange) + 0.002 * rng.standard_normal((num_copies + 1, 16))
    score_N = find_neighbors(np.concatenate([vectors_NE, copies]), 10).mean_distances()
    assert score_N[300:].min() > score_N[:300].max()


def test_many_vectors_are_compared_with_a_sample(vectors_NE, monkeypatch):
    monkeypatch.setattr(neighbors, "MAX_REFERENCES", 60)
    planted_NE = np.random.default_rng(2).standard_normal((10, 16))
    result = find_neighbors(np.concatenate([vectors_NE, planted_NE]), 5)
    assert result.num_references == 60
    assert 50 < len(np.unique(result.index_NK)) <= 60
    assert (result.index_NK != np.arange(310)[:, None]).all()
    assert roc_auc_score(np.arange(310) >= 300, result.mean_distances()) > 0.99


@pytest.mark.parametrize("count", [2, 3, 8])
def test_few_or_equal_vectors_have_finite_scores(count):
    assert find_neighbors(np.ones((count, 4)), 10).mean_distances() == pytest.approx(np.zeros(count), abs=1e-5)
    assert np.isfinite(find_neighbors(np.eye(count, 8), 10).mean_distances()).all()


def test_wrong_labels_are_found_with_the_right_ones(vectors_NE):
    true_N = np.repeat([0, 1, 2], 100)
    wrong_M = np.array([3, 40, 150, 151, 299])
    label_N = true_N.copy()
    label_N[wrong_M] = (true_N[wrong_M] + 1) % 3
    errors = find_label_errors(label_N, find_neighbors(vectors_NE, 10).index_NK)
    assert sorted(errors.ranked().tolist()) == wrong_M.tolist()
    assert (errors.suggested_N[wrong_M] == true_N[wrong_M]).all()
    assert (errors.suggested_share_N[wrong_M] > 0.8).all()


def test_copies_with_the_same_wrong_label_do_not_vouch_for_each_other(vectors_NE):
    copies_NE = vectors_NE[[0]] + 1e-4 * np.random.default_rng(3).standard_normal((8, 16))
    label_N = np.concatenate([np.repeat([0, 1, 2], 100), np.full(8, 2)])
    errors = find_label_errors(label_N, find_neighbors(np.concatenate([vectors_NE, copies_NE]), 10).index_NK)
    assert (errors.suggested_N[300:] == 0).all()


def test_labels_that_do_not_follow_the_vectors_are_not_replaced_by_the_most_frequent_one(vectors_NE):
    label_N = (np.random.default_rng(4).random(300) < 0.1).astype(int)
    errors = find_label_errors(label_N, find_neighbors(vectors_NE, 20).index_NK)
    majority_N = label_N[find_neighbors(vectors_NE, 20).index_NK].mean(axis=1).round()
    assert len(errors.ranked()) < (majority_N != label_N).sum()


def test_missing_neighbors_count_for_no_label():
    errors = find_label_errors(np.array([0, 0, 1]), np.array([[1, -1], [0, -1], [0, 1]]))
    assert errors.own_share_N.tolist() == [1, 1, 0]
    assert errors.suggested_N.tolist() == [-1, -1, 0]
