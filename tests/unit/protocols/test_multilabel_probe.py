"""Tests of the multilabel probe against one scikit-learn regression per class."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

from zebra.errors import DataError, ShapeError
from zebra.protocols.multilabel_probe import fit_multilabel_probe
from zebra.values import Embeddings

NUM_CLASSES, DIM = 4, 12


def make_dataset(count, seed):
    """Return vectors that are the sum of the centers of their classes, with noise."""
    center_CD = np.random.default_rng(0).normal(size=(NUM_CLASSES, DIM))
    rng = np.random.default_rng(seed)
    label_NC = rng.random((count, NUM_CLASSES)) < 0.3
    vector_ND = label_NC @ center_CD + 0.8 * rng.normal(size=(count, DIM)) + 3
    return Embeddings(vector_ND.astype(np.float32), tuple(map(str, range(count)))), label_NC


def test_the_probe_equals_one_scikit_learn_regression_per_class():
    (train, train_label_NC), (test, test_label_NC) = make_dataset(300, 1), make_dataset(200, 2)
    result = fit_multilabel_probe(train, train_label_NC, test, test_label_NC)
    for label in range(NUM_CLASSES):
        regression = LogisticRegression(C=1 / result.l2_penalty, solver="newton-cholesky", tol=1e-9)
        regression.fit(train.vectors.astype(np.float64), train_label_NC[:, label])
        expected_N = regression.decision_function(test.vectors.astype(np.float64))
        assert result.result.score_NC[:, label] == pytest.approx(expected_N, abs=5e-3)
    precision = [average_precision_score(test_label_NC[:, c], result.result.score_NC[:, c]) for c in range(NUM_CLASSES)]
    assert result.result.scores()["map"].value == pytest.approx(np.mean(precision), abs=1e-6)


def test_a_learnable_task_is_learned():
    (train, train_label_NC), (test, test_label_NC) = make_dataset(300, 1), make_dataset(200, 2)
    assert (
        fit_multilabel_probe(train, train_label_NC, test, test_label_NC, num_points=11).result.scores()["map11"].value
        > 0.85
    )
    shuffled_NC = np.random.default_rng(3).permutation(train_label_NC)
    assert fit_multilabel_probe(train, shuffled_NC, test, test_label_NC).result.scores()["map"].value < 0.55


def test_a_class_without_examples_is_named():
    (train, train_label_NC), (test, test_label_NC) = make_dataset(100, 1), make_dataset(50, 2)
    train_label_NC[:, 2] = False
    with pytest.raises(DataError, match=r"1 classes are present in all or none .*class 2 in none"):
        fit_multilabel_probe(train, train_label_NC, test, test_label_NC)


def test_inputs_that_do_not_match_are_refused():
    (train, train_label_NC), (test, test_label_NC) = make_dataset(100, 1), make_dataset(50, 2)
    with pytest.raises(ShapeError, match="training split must be bool"):
        fit_multilabel_probe(train, train_label_NC[:-1], test, test_label_NC)
    with pytest.raises(ShapeError, match="do not match"):
        fit_multilabel_probe(train, train_label_NC, replace(test, vectors=test.vectors[:, 1:]), test_label_NC)
    with pytest.raises(DataError, match="NaN"):
        fit_multilabel_probe(replace(train, vectors=train.vectors * np.nan), train_label_NC, test, test_label_NC)
    with pytest.raises(DataError, match="at least 5"):
        fit_multilabel_probe(replace(train, vectors=train.vectors[:3]), train_label_NC[:3], test, test_label_NC)
