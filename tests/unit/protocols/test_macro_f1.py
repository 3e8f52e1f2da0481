"""Tests of macro F1 against WILDS' formula, which is scikit-learn's over the classes that occur."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from zebra.errors import DataError
from zebra.protocols.macro_f1 import macro_f1

RNG = np.random.default_rng(0)


def test_macro_f1_is_that_of_wilds_over_the_classes_that_occur_among_the_labels():
    for num_classes in (2, 5, 30):
        labels = RNG.choice(num_classes, 200, p=RNG.dirichlet(np.ones(num_classes)))
        predicted = np.where(RNG.random(200) < 0.5, labels, RNG.integers(0, num_classes, 200))
        expected = f1_score(labels, predicted, average="macro", labels=np.unique(labels), zero_division=0)
        score = macro_f1(predicted, labels)
        assert score.value == pytest.approx(expected, abs=1e-12)
        assert score.low < score.value < score.high


def test_macro_f1_of_0_and_1_have_intervals():
    labels = np.array([0, 0, 1, 1, 7])
    assert macro_f1(labels, labels).value == 1
    assert macro_f1(labels, labels).low < 1
    assert macro_f1(labels + 8, labels).value == 0
    assert macro_f1(labels + 8, labels).high > 0


def test_macro_f1_is_reproducible_and_needs_samples():
    labels, predicted = RNG.integers(0, 3, 50), RNG.integers(0, 3, 50)
    assert macro_f1(predicted, labels) == macro_f1(predicted, labels)
    with pytest.raises(DataError, match="0 samples"):
        macro_f1(np.zeros(0, int), np.zeros(0, int))
