"""Two models on the same samples."""

import numpy as np
import pytest
from scipy.stats import binomtest

from zebra.errors import DataError
from zebra.protocols.paired_test import SampleScores, compare_paired


def outcomes(values, ids=None):
    values = np.asarray(values)
    return SampleScores(tuple(str(n) for n in range(len(values))) if ids is None else tuple(ids), values)


def two_models(samples=300, seed=0):
    rng = np.random.default_rng(seed)
    return rng.random(samples) < 0.7, rng.random(samples) < 0.6


def test_the_interval_is_that_of_a_bootstrap_over_samples():
    """Counts of equal differences are drawn in place of samples; the long way agrees up to the luck of the draw."""
    first, second = two_models()
    ahead = first.astype(float) - second
    rng = np.random.default_rng(1)
    drawn = ahead[rng.integers(0, 300, (10_000, 300))].mean(axis=1)
    found = compare_paired(outcomes(first), outcomes(second))
    low, high = np.quantile(drawn, (0.025, 0.975))
    assert found.difference.value == pytest.approx(ahead.mean())
    assert (found.difference.low, found.difference.high) == (
        pytest.approx(low, abs=5e-3),
        pytest.approx(high, abs=5e-3),
    )
    assert found.p_value == pytest.approx(2 * (drawn <= 0).mean(), abs=0.04)


def test_mcnemar_counts_samples_that_only_one_model_classified_correctly():
    first, second = two_models()
    found = compare_paired(outcomes(first), outcomes(second))
    won, lost = int((first & ~second).sum()), int((~first & second).sum())
    assert (found.num_wins, found.num_losses) == (won, lost)
    assert found.mcnemar_p_value == pytest.approx(binomtest(won, won + lost).pvalue)


def test_numbers_are_compared_without_mcnemar():
    rng = np.random.default_rng(0)
    found = compare_paired(outcomes(rng.normal(size=200) + 0.5), outcomes(rng.normal(size=200)))
    assert found.mcnemar_p_value is None
    assert found.difference.low > 0
    assert found.difference.high - found.difference.low == pytest.approx(
        2 * 1.96 * 2**0.5 / 200**0.5, rel=0.15
    )


def test_the_order_of_the_samples_does_not_matter():
    first, second = two_models()
    turned = outcomes(second[::-1], [str(n) for n in reversed(range(300))])
    assert compare_paired(outcomes(first), turned) == compare_paired(outcomes(first), outcomes(second))


def test_a_model_does_not_differ_from_itself():
    model = outcomes([True, False, True])
    found = compare_paired(model, model)
    assert (found.difference.value, found.difference.low, found.difference.high) == (0, 0, 0)
    assert (found.p_value, found.mcnemar_p_value) == (1, 1)


def test_equal_models_are_rarely_significantly_different():
    """Of 200 pairs of equally good models, p < 0.05 in about 10."""
    rng = np.random.default_rng(0)
    small = [
        compare_paired(outcomes(rng.random(200) < 0.5), outcomes(rng.random(200) < 0.5), seed=n).p_value
        < 0.05
        for n in range(200)
    ]
    assert 2 <= sum(small) <= 20


def test_different_samples_are_refused():
    model = outcomes([True, False])
    with pytest.raises(DataError, match="2 belong to only one model"):
        compare_paired(model, outcomes([True, False], ["0", "other"]))
    with pytest.raises(DataError, match="'a' occurs twice"):
        compare_paired(outcomes([True, False], "aa"), outcomes([True, False], "aa"))
    with pytest.raises(DataError, match="0 samples"):
        compare_paired(outcomes([]), outcomes([]))
    with pytest.raises(DataError, match="'1' is NaN"):
        compare_paired(outcomes([0.0, np.nan]), model)
    with pytest.raises(DataError, match="1 ids but 2"):
        compare_paired(outcomes([True, False], "a"), model)
