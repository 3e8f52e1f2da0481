"""Scores and their intervals."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, confusion_matrix

from zebra.errors import DataError
from zebra.evaluate.metrics import confusion, mean_per_class, proportion


def test_wilson_interval_of_a_textbook_case():
    """Newcombe 1998, table I: 81 of 263 gives 0.2553 to 0.3662."""
    score = proportion(81, 263)
    assert (score.low, score.high) == (pytest.approx(0.2553, abs=5e-5), pytest.approx(0.3662, abs=5e-5))


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_holds_the_value_and_stays_inside_0_and_1(counts):
    score = proportion(*counts)
    assert 0 <= score.low <= score.value <= score.high <= 1
    assert score.low < score.high


def test_an_accuracy_over_nothing_is_an_error():
    with pytest.raises(DataError, match="0 samples"):
        proportion(0, 0)
    with pytest.raises(DataError, match="0 samples"):
        mean_per_class(np.zeros(0, bool), np.zeros(0, np.int64))


@given(st.integers(0, 2**32 - 1))
def test_mean_per_class_and_confusion_agree_with_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    truth, guess = rng.integers(0, 4, 60), rng.integers(0, 4, 60)
    truth[:4] = range(4)
    assert mean_per_class(guess == truth, truth).value == pytest.approx(balanced_accuracy_score(truth, guess))
    assert np.array_equal(confusion(guess, truth, 4), confusion_matrix(truth, guess, labels=range(4)))
