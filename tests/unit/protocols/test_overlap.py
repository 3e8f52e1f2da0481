"""Tests of the effect of near duplicates on accuracy."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import fisher_exact

from zebra.errors import DataError
from zebra.protocols.overlap import bonferroni_correction, evaluate_overlap


def evaluate(clean, seen):
    """Evaluate (correct, total) clean images and (correct, total) duplicates."""
    parts = [
        (number < num_correct, part)
        for part, (num_correct, total) in enumerate((clean, seen))
        for number in range(total)
    ]
    correct, duplicate = zip(*parts, strict=True) if parts else ((), ())
    return evaluate_overlap(np.array(correct, bool), np.array(duplicate, bool))


def test_all_clean_and_overlap_are_accuracies_of_their_images():
    result = evaluate((60, 100), (18, 20))
    assert (result.all.value, result.clean.value, result.overlap.value) == (0.65, 0.6, 0.9)
    assert result.contamination.value == pytest.approx(1 / 6)
    assert result.inflation == pytest.approx(0.05)


def test_p_is_the_upper_tail_of_the_binomial_with_clean_as_null():
    tail = sum(math.comb(20, k) * 0.6**k * 0.4 ** (20 - k) for k in range(18, 21))
    assert evaluate((60, 100), (18, 20)).binomial_p_value == pytest.approx(tail)


@pytest.mark.parametrize(
    ("clean", "seen"), [((60, 100), (18, 20)), ((9, 10), (3, 4)), ((0, 5), (2, 2)), ((5, 5), (2, 2))]
)
def test_the_exact_p_is_that_of_fishers_test_in_scipy(clean, seen):
    table = [[seen[0], seen[1] - seen[0]], [clean[0], clean[1] - clean[0]]]
    expected = fisher_exact(table, alternative="greater").pvalue
    assert evaluate(clean, seen).fisher_p_value == pytest.approx(expected)


def test_with_few_clean_images_only_fishers_test_keeps_its_level():
    """150 simulated datasets whose duplicates are no easier: 100 clean images, 300 duplicates."""
    rng, is_duplicate_N = np.random.default_rng(0), np.arange(400) >= 100
    results = [evaluate_overlap(rng.random(400) < 0.7, is_duplicate_N) for _ in range(150)]
    assert sum(result.fisher_p_value < 0.05 for result in results) / 150 <= 0.06
    assert sum(result.binomial_p_value < 0.05 for result in results) / 150 > 0.1


def test_an_overlap_that_is_harder_than_clean_has_a_high_p_value():
    result = evaluate((90, 100), (5, 20))
    assert min(result.binomial_p_value, result.fisher_p_value) > 0.999


def test_the_interval_is_clopper_and_pearsons_at_995():
    """At its ends, a tail of the binomial distribution has 0.25%."""
    low, high = evaluate((60, 100), (18, 20)).overlap_interval
    upper = sum(math.comb(20, k) * low**k * (1 - low) ** (20 - k) for k in range(18, 21))
    lower = sum(math.comb(20, k) * high**k * (1 - high) ** (20 - k) for k in range(19))
    assert (upper, lower) == (pytest.approx(0.0025, rel=1e-4), pytest.approx(0.0025, rel=1e-4))


def test_a_dataset_without_overlap_has_no_test():
    result = evaluate((60, 100), (0, 0))
    assert (result.overlap, result.overlap_interval, result.inflation) == (None, None, 0)
    assert (result.binomial_p_value, result.fisher_p_value) == (None, None)
    assert result.all == result.clean


def test_a_dataset_of_duplicates_has_no_clean_accuracy():
    result = evaluate((0, 0), (15, 20))
    assert (result.clean, result.binomial_p_value, result.fisher_p_value, result.inflation) == (None, None, None, 0)
    assert result.overlap == result.all


def test_bonferroni_multiplies_by_the_number_of_tested_datasets():
    assert bonferroni_correction({"birds": 0.02, "pets": 0.7, "none": None}) == {"birds": 0.04, "pets": 1}


@settings(deadline=None)  # the machine may be busy
@given(st.integers(0, 2**32 - 1))
def test_all_is_between_clean_and_overlap(seed):
    rng = np.random.default_rng(seed)
    result = evaluate_overlap(rng.random(50) < rng.random(), rng.random(50) < rng.random())
    parts = [part.value for part in (result.clean, result.overlap) if part]
    assert min(parts) - 1e-12 <= result.all.value <= max(parts) + 1e-12


def test_invalid_input_is_named():
    with pytest.raises(DataError, match="3 images but is_duplicate_N has 2"):
        evaluate_overlap(np.ones(3, bool), np.ones(2, bool))
    with pytest.raises(DataError, match="0 samples"):
        evaluate((0, 0), (0, 0))
