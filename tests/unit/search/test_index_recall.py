"""The recall of an index is measured with queries like images and like texts, against exact neighbors."""

import numpy as np
import pytest

from zebra.search import index_recall
from zebra.search.index_recall import RecallQueries, find_exact_scores, make_recall_queries


@pytest.fixture
def vectors(store):
    stored_NE = store.read_vectors()[1].astype(np.float64)
    return stored_NE / np.linalg.norm(stored_NE, axis=1, keepdims=True)


def best_scores(vectors_NE, queries_QE):
    return -np.sort(-(queries_QE.astype(np.float64) @ vectors_NE.T), axis=1)[:, :10]


@pytest.mark.parametrize("block_rows", [1, 7, 20, 1000])
def test_exact_scores_are_the_same_for_any_size_of_blocks(store, vectors, monkeypatch, block_rows):
    monkeypatch.setattr(index_recall, "SCAN_BLOCK_ROWS", block_rows)
    queries_QE = np.random.default_rng(0).standard_normal((6, 8)).astype(np.float32)
    queries_QE /= np.linalg.norm(queries_QE, axis=1, keepdims=True)
    assert find_exact_scores(store, queries_QE) == pytest.approx(best_scores(vectors, queries_QE), abs=1e-6)


def test_queries_like_images_are_near_to_rows_and_those_like_texts_are_not(store, vectors):
    image, text = make_recall_queries(store)
    for kind in (image, text):
        assert np.linalg.norm(kind.queries_QE, axis=1) == pytest.approx(1)
        assert kind.exact_scores_QK == pytest.approx(best_scores(vectors, kind.queries_QE), abs=1e-6)
    assert image.exact_scores_QK[:, 0].mean() > text.exact_scores_QK[:, 0].mean() + 0.05
    again = make_recall_queries(store)
    assert np.array_equal(again[1].queries_QE, text.queries_QE)


def test_recall_is_the_share_of_neighbors_found_and_equal_cosines_count():
    exact_QK = np.array([[0.9, 0.8, 0.8, 0.7]] * 2, np.float32)
    queries = RecallQueries(np.zeros((2, 3), np.float32), exact_QK)
    assert queries.recall(lambda _: np.array([0.9, 0.8, 0.8, 0.7])) == 1
    assert queries.recall(lambda _: np.array([0.9, 0.7, 0.7, 0.6])) == 0.75
    assert queries.recall(lambda _: np.array([0.6])) == 0
    assert queries.recall(lambda _: np.empty(0)) == 0
