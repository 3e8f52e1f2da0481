"""The probe of several labels against one scikit-learn regression for each class."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

from zebra.errors import DataError, ShapeError
from zebra.protocols.multilabel_probe import fit_multilabel_probe
from zebra.values import Embeddings

CLASSES, WIDTH = 4, 12


def world(count, seed):
    """Pictures show each class or not; a vector is the sum of what it shows, with noise."""
    centre_CD = np.random.default_rng(0).normal(size=(CLASSES, WIDTH))
    rng = np.random.default_rng(seed)
    truth_NC = rng.random((count, CLASSES)) < 0.3
    vector_ND = truth_NC @ centre_CD + 0.8 * rng.normal(size=(count, WIDTH)) + 3
    return Embeddings(vector_ND.astype(np.float32), tuple(map(str, range(count)))), truth_NC


def test_the_probe_equals_one_scikit_learn_regression_per_class():
    (train, train_NC), (test, test_NC) = world(300, 1), world(200, 2)
    found = fit_multilabel_probe(train, train_NC, test, test_NC)
    for label in range(CLASSES):
        peer = LogisticRegression(C=1 / found.l2_penalty, solver="newton-cholesky", tol=1e-9)
        peer.fit(train.vectors.astype(np.float64), train_NC[:, label])
        theirs_N = peer.decision_function(test.vectors.astype(np.float64))
        assert found.result.score_NC[:, label] == pytest.approx(theirs_N, abs=5e-3)
    precision = [average_precision_score(test_NC[:, c], found.result.score_NC[:, c]) for c in range(CLASSES)]
    assert found.result.scores()["map"].value == pytest.approx(np.mean(precision), abs=1e-6)


def test_a_learnable_task_is_learned():
    (train, train_NC), (test, test_NC) = world(300, 1), world(200, 2)
    assert (
        fit_multilabel_probe(train, train_NC, test, test_NC, num_points=11).result.scores()["map11"].value
        > 0.85
    )
    shuffled_NC = np.random.default_rng(3).permutation(train_NC)
    assert fit_multilabel_probe(train, shuffled_NC, test, test_NC).result.scores()["map"].value < 0.55


def test_a_class_without_examples_is_named():
    (train, train_NC), (test, test_NC) = world(100, 1), world(50, 2)
    train_NC[:, 2] = False
    with pytest.raises(DataError, match="1 classes are present in all or none .*class 2 in none"):
        fit_multilabel_probe(train, train_NC, test, test_NC)


def test_inputs_that_do_not_match_are_refused():
    (train, train_NC), (test, test_NC) = world(100, 1), world(50, 2)
    with pytest.raises(ShapeError, match="training split must be bool"):
        fit_multilabel_probe(train, train_NC[:-1], test, test_NC)
    with pytest.raises(ShapeError, match="do not match"):
        fit_multilabel_probe(train, train_NC, replace(test, vectors=test.vectors[:, 1:]), test_NC)
    with pytest.raises(DataError, match="NaN"):
        fit_multilabel_probe(replace(train, vectors=train.vectors * np.nan), train_NC, test, test_NC)
    with pytest.raises(DataError, match="at least 5"):
        fit_multilabel_probe(replace(train, vectors=train.vectors[:3]), train_NC[:3], test, test_NC)
