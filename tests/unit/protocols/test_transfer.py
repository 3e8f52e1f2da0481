"""Tests of the best models on a dataset."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from zebra.errors import DataError
from zebra.protocols.metrics import proportion
from zebra.protocols.transfer import clopper_pearson, find_best_models


@given(st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.5, 0.999))
def test_the_exact_interval_is_that_of_scipy(counts, confidence):
    num_correct, n = counts
    expected = binomtest(num_correct, n).proportion_ci(confidence, "exact")
    assert clopper_pearson(num_correct / n, n, confidence) == pytest.approx(tuple(expected), abs=1e-9)


def test_models_inside_the_interval_of_the_best_are_best():
    """The interval of 900 of 1000 begins at 0.8706 (exact, 99.5 %)."""
    scores = {"best": 900, "inside": 871, "outside": 870}
    assert find_best_models({name: proportion(count, 1000) for name, count in scores.items()}) == ("best", "inside")


def test_the_best_of_no_models_and_impossible_scores_are_refused():
    with pytest.raises(DataError, match="no scores"):
        find_best_models({})
    with pytest.raises(DataError, match=r"got 1\.5 of 9"):
        clopper_pearson(1.5, 9, 0.95)
