"""Tests of the worst group, macro F1 and means over clusters, against the authors' formulas written independently."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from zebra.errors import DataError, ShapeError
from zebra.protocols.group_metrics import clustered_mean, find_worst_group, macro_f1
from zebra.protocols.metrics import proportion

RNG = np.random.default_rng(0)


def make_groups(**groups: tuple[int, int]) -> tuple[np.ndarray, list[str]]:
    """Return hits and groups from (hits, total) of each group."""
    names = [name for name, (_, total) in groups.items() for _ in range(total)]
    return np.array([n < hits for hits, total in groups.values() for n in range(total)]), names


def wilds_worst_accuracy(predicted: np.ndarray, labels: np.ndarray, group: np.ndarray) -> float:
    """WILDS: the least accuracy of the groups that occur, in single precision."""
    sums, counts = np.zeros(group.max() + 1, np.float32), np.zeros(group.max() + 1, np.float32)
    for hit, index in zip(predicted == labels, group, strict=True):
        sums[index] += np.float32(hit)
        counts[index] += 1
    return float((sums[counts > 0] / counts[counts > 0]).min())


def test_the_worst_group_is_that_of_wilds_on_random_predictions_with_a_missing_group():
    for _ in range(20):
        labels, predicted = RNG.integers(0, 4, 300), RNG.integers(0, 4, 300)
        group = RNG.choice([0, 1, 3, 4], 300, p=[0.5, 0.3, 0.19, 0.01])
        worst = find_worst_group(predicted == labels, [str(index) for index in group])
        assert worst.score.value == pytest.approx(wilds_worst_accuracy(predicted, labels, group), abs=1e-6)
        assert worst.size == (group == int(worst.name)).sum()


def test_a_group_of_a_single_image_is_the_worst_if_it_is_missed_as_in_datacomps_fmow():
    worst = find_worst_group(*make_groups(many=(300, 1000), other=(0, 1)))
    assert (worst.name, worst.size, worst.score.value) == ("other", 1, 0)
    assert worst.score.high == pytest.approx(find_worst_group(*make_groups(many=(300, 1000))).score.high, abs=0.02)


def test_groups_far_from_the_worst_leave_its_interval_as_it_is():
    alone = find_worst_group(*make_groups(bad=(50, 100)))
    with_others = find_worst_group(*make_groups(bad=(50, 100), good=(95, 100), best=(99, 100)))
    assert (with_others.score.low, with_others.score.high) == pytest.approx((alone.score.low, alone.score.high))
    wilson = proportion(50, 100)
    assert (alone.score.low, alone.score.high) == pytest.approx((wilson.low, wilson.high), abs=0.005)


def test_more_groups_that_may_be_the_worst_raise_the_upper_end():
    highs = [
        find_worst_group(*make_groups(**{f"g{n}": (60, 100) for n in range(count)})).score.high for count in (1, 3, 9)
    ]
    assert highs[0] < highs[1] < highs[2]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 30)), min_size=1, max_size=6))
def test_the_interval_contains_the_value_and_stays_in_0_to_1(groups):
    worst = find_worst_group(*make_groups(**{f"g{n}": (min(k, m), m) for n, (k, m) in enumerate(groups)}))
    assert 0 <= worst.score.low <= worst.score.value <= worst.score.high <= 1


def test_no_images_or_another_number_of_groups_are_errors():
    with pytest.raises(DataError, match="0 samples"):
        find_worst_group(np.zeros(0, bool), [])
    with pytest.raises(ShapeError, match="2 results for 1 groups"):
        find_worst_group(np.zeros(2, bool), ["a"])


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
