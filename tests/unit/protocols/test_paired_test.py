"""Tests of the paired comparison of two models."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from zebra.errors import DataError
from zebra.protocols.paired_test import SampleScores, compare_paired


def make_scores(values, ids=None):
    values = np.asarray(values)
    return SampleScores(tuple(str(n) for n in range(len(values))) if ids is None else tuple(ids), values)


def two_models(samples=300, seed=0):
    rng = np.random.default_rng(seed)
    return rng.random(samples) < 0.7, rng.random(samples) < 0.6


def test_the_interval_is_that_of_a_bootstrap_over_samples():
    """The protocol resamples counts of equal differences; this test resamples the samples."""
    first, second = two_models()
    difference = first.astype(float) - second
    rng = np.random.default_rng(1)
    resamples = difference[rng.integers(0, 300, (10_000, 300))].mean(axis=1)
    result = compare_paired(make_scores(first), make_scores(second))
    low, high = np.quantile(resamples, (0.025, 0.975))
    assert result.difference.value == pytest.approx(difference.mean())
    assert (result.difference.low, result.difference.high) == (
        pytest.approx(low, abs=5e-3),
        pytest.approx(high, abs=5e-3),
    )
    assert result.p_value == pytest.approx(2 * (resamples <= 0).mean(), abs=0.04)


def test_mcnemar_counts_samples_that_only_one_model_classified_correctly():
    first, second = two_models()
    result = compare_paired(make_scores(first), make_scores(second))
    num_wins, num_losses = int((first & ~second).sum()), int((~first & second).sum())
    assert (result.num_wins, result.num_losses) == (num_wins, num_losses)
    n = num_wins + num_losses
    exact, observed = binomtest(num_wins, n).pvalue, math.comb(n, num_wins) / 2**n
    assert result.mcnemar_p_value == pytest.approx(exact - observed)  # mid-p: the observed split counts by half


def test_numbers_are_compared_without_mcnemar():
    rng = np.random.default_rng(0)
    result = compare_paired(make_scores(rng.normal(size=200) + 0.5), make_scores(rng.normal(size=200)))
    assert result.mcnemar_p_value is None
    assert result.difference.low > 0
    assert result.difference.high - result.difference.low == pytest.approx(2 * 1.96 * 2**0.5 / 200**0.5, rel=0.15)


def test_the_order_of_the_samples_does_not_matter():
    first, second = two_models()
    reversed_scores = make_scores(second[::-1], [str(n) for n in reversed(range(300))])
    assert compare_paired(make_scores(first), reversed_scores) == compare_paired(
        make_scores(first), make_scores(second)
    )


def test_a_model_does_not_differ_from_itself():
    model = make_scores([True, False, True])
    result = compare_paired(model, model)
    assert (result.difference.value, result.difference.low, result.difference.high) == (0, 0, 0)
    assert (result.p_value, result.mcnemar_p_value) == (1, 1)


def test_equal_models_are_rarely_significantly_different():
    """Of 200 pairs of equally good models, about 10 have p < 0.05."""
    rng = np.random.default_rng(0)
    is_significant = [
        compare_paired(make_scores(rng.random(200) < 0.5), make_scores(rng.random(200) < 0.5), seed=n).p_value < 0.05
        for n in range(200)
    ]
    assert 2 <= sum(is_significant) <= 20


def test_different_samples_are_refused():
    model = make_scores([True, False])
    with pytest.raises(DataError, match="2 belong to only one model"):
        compare_paired(model, make_scores([True, False], ["0", "other"]))
    with pytest.raises(DataError, match="'a' occurs twice"):
        compare_paired(make_scores([True, False], "aa"), make_scores([True, False], "aa"))
    with pytest.raises(DataError, match="0 samples"):
        compare_paired(make_scores([]), make_scores([]))
    with pytest.raises(DataError, match="'1' is NaN"):
        compare_paired(make_scores([0.0, np.nan]), model)
    with pytest.raises(DataError, match="1 ids but 2"):
        compare_paired(make_scores([True, False], "a"), model)
