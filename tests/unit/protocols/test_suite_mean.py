"""The mean of a suite and its interval."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zebra.errors import DataError, ShapeError
from zebra.protocols.metrics import proportion
from zebra.protocols.suite_mean import suite_mean
from zebra.values import Score

SCORES = [Score(0.5, 0.4, 0.6, 100), Score(0.9, 0.8, 0.95, 50), Score(0.2, 0.1, 0.4, 20)]


def test_the_plain_mean_adds_independent_uncertainties_in_quadrature() -> None:
    mean = suite_mean(SCORES)
    assert mean.value == pytest.approx((0.5 + 0.9 + 0.2) / 3)
    assert mean.low == pytest.approx(mean.value - math.sqrt(0.1**2 + 0.1**2 + 0.1**2) / 3)
    assert mean.high == pytest.approx(mean.value + math.sqrt(0.1**2 + 0.05**2 + 0.2**2) / 3)
    assert mean.n == 170


def test_uncertainties_on_shared_images_add_up() -> None:
    mean = suite_mean(SCORES, collections=["coco", "coco", ""])
    assert mean.low == pytest.approx(mean.value - math.hypot(0.1 + 0.1, 0.1) / 3)
    assert suite_mean(SCORES, collections=["", "", ""]) == suite_mean(SCORES)


def test_the_mean_of_groups_weights_groups_equally() -> None:
    mean = suite_mean(SCORES, ["a", "a", "b"])
    assert mean.value == pytest.approx(((0.5 + 0.9) / 2 + 0.2) / 2)
    assert mean.high == pytest.approx(mean.value + math.sqrt((0.1 / 4) ** 2 + (0.05 / 4) ** 2 + (0.2 / 2) ** 2))


def test_the_mean_of_one_score_is_that_score() -> None:
    mean = suite_mean(SCORES[:1], ["a"], ["coco"])
    assert (mean.value, mean.low, mean.high) == pytest.approx((0.5, 0.4, 0.6))


def test_scores_are_needed_with_one_group_and_collection_each() -> None:
    with pytest.raises(DataError, match="without scores"):
        suite_mean([])
    with pytest.raises(ShapeError, match="3 scores, 2 groups"):
        suite_mean(SCORES, ["a", "b"])


counts = st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(st.lists(counts, min_size=1, max_size=40), st.data())
def test_the_interval_contains_the_mean_and_stays_a_proportion(pairs, data) -> None:
    scores = [proportion(k, n) for k, n in pairs]
    names = st.lists(st.sampled_from(["", "a", "b"]), min_size=len(scores), max_size=len(scores))
    mean = suite_mean(scores, data.draw(names), data.draw(names))
    assert -1e-12 <= mean.low <= mean.value + 1e-12
    assert mean.value - 1e-12 <= mean.high <= 1 + 1e-12
    assert min(score.value for score in scores) - 1e-12 <= mean.value <= max(score.value for score in scores) + 1e-12


def test_the_interval_covers_the_true_mean_of_independent_datasets() -> None:
    rng = np.random.default_rng(0)
    sizes, true = rng.integers(50, 2000, 27), rng.uniform(0.1, 0.99, 27)
    means = [
        suite_mean([proportion(int(k), int(n)) for k, n in zip(rng.binomial(sizes, true), sizes, strict=True)])
        for _ in range(400)
    ]
    coverage = np.mean([mean.low <= true.mean() <= mean.high for mean in means])
    assert 0.92 <= coverage <= 0.98
