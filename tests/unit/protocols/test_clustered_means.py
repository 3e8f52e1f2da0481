"""Tests of means over clusters of samples."""

import numpy as np
import pytest

from zebra.errors import DataError
from zebra.protocols.clustered_means import clustered_mean
from zebra.protocols.metrics import proportion


def test_a_mean_of_hits_has_almost_wilsons_interval():
    hits = np.arange(100) < 30
    score, wilson = clustered_mean(hits.astype(float)), proportion(30, 100)
    assert score.value == pytest.approx(0.3)
    assert (score.low, score.high) == pytest.approx((wilson.low, wilson.high), abs=0.004)


def test_equal_values_in_clusters_count_as_one():
    values = (np.arange(100) < 30).astype(float)
    repeated = clustered_mean(np.repeat(values, 4), np.repeat(np.arange(100), 4))
    assert (repeated.low, repeated.high) == pytest.approx((clustered_mean(values).low, clustered_mean(values).high))
    assert repeated.n == 400


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_a_mean_of_equal_values_has_an_interval(value):
    score = clustered_mean(np.full(20, value))
    assert score.value == value
    assert 0 <= score.low <= value <= score.high <= 1
    assert score.high - score.low > 0.1


def test_a_mean_of_one_value_has_an_interval_and_of_none_is_an_error():
    score = clustered_mean(np.array([0.25]))
    assert score.low < 0.25 < score.high
    with pytest.raises(DataError, match="0 samples"):
        clustered_mean(np.zeros(0))
