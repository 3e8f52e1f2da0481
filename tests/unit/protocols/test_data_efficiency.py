"""Tests of the labels per class at which a probe equals zero-shot."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zebra.errors import DataError
from zebra.protocols.data_efficiency import (
    DataEfficiency,
    ProbeCurve,
    estimate_data_efficiency,
    summarize_data_efficiency,
)
from zebra.protocols.metrics import proportion
from zebra.values import Score


@given(st.lists(st.integers(1, 999), min_size=6, max_size=6, unique=True).map(sorted), st.floats(0, 1))
def test_labels_are_interpolated_linearly_in_their_logarithm(thousandths, fraction):
    accuracies = [value / 1000 for value in thousandths]
    zero_shot = accuracies[0] + fraction * (accuracies[-1] - accuracies[0])
    result = estimate_data_efficiency(
        [1, 2, 4, 8, 16], accuracies[:-1], (300.0, accuracies[-1]), min(zero_shot, accuracies[-1])
    )
    assert result.bound == "exactly"
    assert np.log(result.labels_per_class) == pytest.approx(
        np.interp(zero_shot, accuracies, np.log([1, 2, 4, 8, 16, 300])), abs=1e-9
    )


def test_a_zero_shot_accuracy_outside_the_curve_gives_a_bound():
    assert estimate_data_efficiency([1, 2], [0.4, 0.5], (50, 0.8), 0.39) == DataEfficiency(1, "below")
    assert estimate_data_efficiency([1, 2], [0.4, 0.5], (50, 0.8), 0.81) == DataEfficiency(50, "above")


def test_the_first_crossing_of_an_uneven_curve_counts():
    result = estimate_data_efficiency([1, 2, 4, 8], [0.4, 0.6, 0.5, 0.7], (50, 0.8), 0.55)
    assert result == DataEfficiency(pytest.approx(2**0.75), "exactly")


@pytest.mark.parametrize(
    ("shots", "accuracies", "full", "zero_shot", "message"),
    [
        ([1, 2], [0.4], (50, 0.8), 0.5, "2 numbers of shots but 1 accuracies"),
        ([2, 1], [0.4, 0.5], (50, 0.8), 0.5, "must increase"),
        ([1, 2], [0.4, 0.5], (2, 0.8), 0.5, "must increase"),
        ([0, 2], [0.4, 0.5], (50, 0.8), 0.5, "must increase"),
        ([1, 2], [0.4, 50], (50, 0.8), 0.5, "got 50"),
        ([1, 2], [0.4, 0.5], (50, float("nan")), 0.5, "got nan"),
        ([1, 2], [0.4, 0.5], (50, 0.8), 55.0, "got 55"),
    ],
)
def test_an_invalid_curve_is_refused(shots, accuracies, full, zero_shot, message):
    with pytest.raises(DataError, match=message):
        estimate_data_efficiency(shots, accuracies, full, zero_shot)


def make_curve(*accuracies, zero_shot, n=2000, full=256.0):
    counts = [*(2.0**index for index in range(len(accuracies) - 1)), full]
    return ProbeCurve(
        {count: proportion(round(accuracy * n), n) for count, accuracy in zip(counts, accuracies, strict=True)},
        proportion(round(zero_shot * n), n),
    )


def test_median_and_mean_are_over_datasets_and_bounds_count_with_the_end_of_the_curve():
    curves = {
        "exact": make_curve(0.2, 0.4, 0.6, 0.9, zero_shot=0.4),
        "below": make_curve(0.5, 0.6, 0.7, 0.9, zero_shot=0.3),
        "above": make_curve(0.2, 0.3, 0.4, 0.5, zero_shot=0.8),
    }
    summary = summarize_data_efficiency(curves)
    assert {name: (match.labels_per_class, match.bound) for name, match in summary.matches.items()} == {
        "exact": (2.0, "exactly"),
        "below": (1.0, "below"),
        "above": (256.0, "above"),
    }
    assert (summary.median.value, summary.mean.value) == (2.0, pytest.approx(259 / 3))
    assert (summary.labels["below"].low, summary.labels["below"].high) == (1.0, 1.0)
    assert 1.5 < summary.labels["exact"].low < 2 < summary.labels["exact"].high < 2.7


def test_an_interval_of_labels_follows_that_of_the_accuracies():
    """With certain probes, its ends are where the curve meets those of the zero-shot accuracy."""
    certain = {1.0: Score(0.2, 0.2, 0.2, 9), 16.0: Score(0.6, 0.6, 0.6, 9)}
    interval = summarize_data_efficiency({"set": ProbeCurve(certain, Score(0.4, 0.3, 0.5, 9))}).labels["set"]
    assert interval.value == pytest.approx(4)
    assert np.log2([interval.low, interval.high]) == pytest.approx([1, 3], abs=0.1)


def test_no_curves_are_refused():
    with pytest.raises(DataError, match="at least one dataset"):
        summarize_data_efficiency({})
