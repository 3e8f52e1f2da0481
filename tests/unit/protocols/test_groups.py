"""Tests of accuracy by group."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zebra.errors import DataError
from zebra.protocols.groups import CAVEATS, UNSPECIFIED_GROUP, score_by_group
from zebra.protocols.metrics import proportion, subtract_scores


def make_groups(**groups):
    """Return results and a column of groups, from (correct, total) of each group."""
    column = [name for name, (_, total) in groups.items() for _ in range(total)]
    correct = [number < num_correct for num_correct, total in groups.values() for number in range(total)]
    return np.array(correct), column


def test_each_group_has_an_accuracy_and_an_interval_lowest_first():
    result = score_by_group(*make_groups(old=(90, 100), young=(70, 100), middle=(40, 50)))
    assert list(result.scores.items()) == [
        ("young", proportion(70, 100)),
        ("middle", proportion(40, 50)),
        ("old", proportion(90, 100)),
    ]
    assert result.worst.value == pytest.approx(0.7)
    assert result.gap.value == pytest.approx(0.2)


def test_a_small_group_is_reported_and_marked_but_is_not_the_worst():
    result = score_by_group(*make_groups(many=(90, 100), others=(80, 100), few=(0, 3)), min_group_size=4)
    assert result.scores["few"].value == 0
    assert result.small_groups == ("few",)
    assert result.worst.value == pytest.approx(0.8)
    assert score_by_group(*make_groups(many=(90, 100), others=(80, 100), few=(0, 3)), min_group_size=3).worst.value == 0


def test_without_two_groups_to_compare_there_is_no_gap():
    one = score_by_group(*make_groups(many=(90, 100), few=(1, 3)))
    assert (one.worst.value, one.gap) == (pytest.approx(0.9), None)
    none = score_by_group(*make_groups(few=(1, 3)))
    assert (none.worst, none.gap) == (None, None)


def test_images_without_a_value_form_a_group():
    result = score_by_group(np.array([True, False, True, True]), ["a", "", None, 3])
    assert {name: score.n for name, score in result.scores.items()} == {"a": 1, UNSPECIFIED_GROUP: 2, "3": 1}


@pytest.mark.parametrize("accuracy_G", [np.full(10, 0.8), np.linspace(0.5, 0.95, 10), np.array([0.7, 0.7, 0.9])])
def test_the_intervals_of_the_worst_group_and_the_gap_contain_the_truth(accuracy_G):
    """The best and the worst of equal groups differ by chance, which the intervals must include."""
    rng = np.random.default_rng(0)
    group_N = np.repeat(np.arange(len(accuracy_G)), 200)
    worst, gap = 0, 0
    for _ in range(200):
        result = score_by_group(rng.random(len(group_N)) < accuracy_G[group_N], group_N.tolist())
        worst += result.worst.low <= accuracy_G.min() <= result.worst.high
        gap += result.gap.low <= np.ptp(accuracy_G) <= result.gap.high
    assert min(worst, gap) >= 182  # 95 % but for four standard deviations


def test_two_groups_far_apart_have_the_interval_of_a_difference():
    result = score_by_group(*make_groups(one=(800, 1000), other=(400, 1000)))
    difference = subtract_scores(proportion(800, 1000), proportion(400, 1000))
    assert result.gap.low == pytest.approx(difference.low, abs=1e-3)
    assert result.gap.high == pytest.approx(difference.high, abs=1e-3)
    worst = proportion(400, 1000)
    assert (result.worst.low, result.worst.high) == (
        pytest.approx(worst.low, abs=1e-3),
        pytest.approx(worst.high, abs=1e-3),
    )


def test_a_significant_gap_has_an_interval_above_0():
    assert score_by_group(*make_groups(one=(95, 100), other=(60, 100))).gap.low > 0.1


@settings(deadline=None)  # the machine may be busy
@given(st.lists(st.tuples(st.booleans(), st.sampled_from("abcd")), min_size=1, max_size=60), st.integers(1, 10))
def test_intervals_contain_their_values_and_every_image_counts(rows, min_group_size):
    correct, column = zip(*rows, strict=True)
    result = score_by_group(np.array(correct), column, min_group_size)
    assert sum(score.n for score in result.scores.values()) == len(rows)
    for score in filter(None, (result.worst, result.gap)):
        assert 0 <= score.low <= score.value <= score.high <= 1


def test_group_scores_include_the_caveats():
    result = score_by_group(*make_groups(one=(1, 2)))
    assert result.caveats == CAVEATS
    assert all(sentence.endswith(".") for sentence in result.caveats)


def test_a_column_of_another_length_is_refused():
    with pytest.raises(DataError, match="2 results but 1 group values"):
        score_by_group(np.array([True, False]), ["a"])
    with pytest.raises(DataError, match="the dataset has no images"):
        score_by_group(np.zeros(0, bool), [])


def test_with_groups_of_any_size_the_worst_is_that_of_wilds_on_random_predictions_with_a_missing_group():
    rng = np.random.default_rng(0)
    for _ in range(20):
        hits = rng.random(300) < 0.4
        group = rng.choice([0, 1, 3, 4], 300, p=[0.5, 0.3, 0.19, 0.01])
        sums, counts = np.zeros(5, np.float32), np.zeros(5, np.float32)  # WILDS averages in single precision
        np.add.at(sums, group, hits.astype(np.float32))
        np.add.at(counts, group, np.float32(1))
        worst = score_by_group(hits, group, min_group_size=1).worst
        assert worst.value == pytest.approx(float((sums[counts > 0] / counts[counts > 0]).min()), abs=1e-6)


def test_a_group_of_one_image_may_be_the_worst_as_in_datacomps_fmow():
    result = score_by_group(*make_groups(many=(300, 1000), other=(0, 1)), min_group_size=1)
    assert (next(iter(result.scores)), result.worst.value) == ("other", 0)
    assert result.worst.high == pytest.approx(0.3, abs=0.04)  # the region of many images bounds the worst from above
