"""Tests of the power law of error against compute."""

import numpy as np
import pytest
from scipy.optimize import curve_fit
from scipy.stats import linregress, t

from zebra.errors import DataError
from zebra.protocols.scaling import fit_law_with_limit, fit_power_law

COMPUTE = [6.1, 9.9, 21.5, 75.3, 265.9]
ERROR = [0.47, 0.45, 0.41, 0.38, 0.33]


def test_an_exact_power_law_is_recovered():
    law = fit_power_law(COMPUTE, [0.6 * c**-0.2 for c in COMPUTE])
    assert (law.exponent.value, law.scale) == (pytest.approx(-0.2), pytest.approx(0.6))
    assert law.exponent.high - law.exponent.low < 1e-9


def test_the_exponent_and_its_interval_are_those_of_scipy():
    law = fit_power_law(COMPUTE, ERROR)
    expected = linregress(np.log(COMPUTE), np.log(ERROR))
    half_width = t.ppf(0.975, 3) * expected.stderr
    assert law.exponent.value == pytest.approx(expected.slope)
    assert law.exponent.low == pytest.approx(expected.slope - half_width)
    assert law.exponent.high == pytest.approx(expected.slope + half_width)


def test_the_unit_of_compute_does_not_matter():
    first = fit_power_law(COMPUTE, ERROR)
    second = fit_power_law([1e9 * c for c in COMPUTE], ERROR)
    assert second.exponent.value == pytest.approx(first.exponent.value)
    assert second.prediction_band([5e11]).high_N == pytest.approx(first.prediction_band([500]).high_N)


@pytest.mark.parametrize(("kind", "noise"), [("confidence_band", 0), ("prediction_band", 1)])
def test_the_bands_are_those_of_the_general_linear_model(kind, noise):
    """x (X'X)⁻¹ x' times the residual variance, plus that of one more run for a prediction."""
    law = fit_power_law(COMPUTE, ERROR)
    design = np.stack([np.ones(5), np.log(COMPUTE)], axis=1)
    beta, residual = np.linalg.lstsq(design, np.log(ERROR), rcond=None)[:2]
    for compute in (1.0, 30.0, 5000.0):
        row = np.array([1, np.log(compute)])
        std = np.sqrt(residual[0] / 3 * (noise + row @ np.linalg.inv(design.T @ design) @ row))
        band = getattr(law, kind)([compute])
        assert band.value_N[0] == pytest.approx(np.exp(row @ beta))
        assert band.low_N[0] == pytest.approx(np.exp(row @ beta - t.ppf(0.975, 3) * std))
        assert band.high_N[0] == pytest.approx(np.exp(row @ beta + t.ppf(0.975, 3) * std))


def test_one_more_run_is_inside_its_interval_95_percent_of_the_time():
    rng = np.random.default_rng(0)
    num_inside = 0
    for _ in range(400):
        errors = 0.5 * np.array([*COMPUTE, 1000.0]) ** -0.1 * np.exp(rng.normal(size=6) * 0.03)
        band = fit_power_law(COMPUTE, errors[:5]).prediction_band([1000.0])
        num_inside += bool(band.low_N[0] <= errors[5] <= band.high_N[0])
    assert 0.92 <= num_inside / 400 <= 0.98


def with_limit(compute, limit=0.1, scale=0.5, exponent=-0.4):
    return limit + scale * np.asarray(compute, dtype=float) ** exponent


def test_an_exact_law_with_a_limit_is_recovered_and_extrapolated():
    compute = np.geomspace(1, 1000, 8)
    law = fit_law_with_limit(compute, with_limit(compute))
    assert (law.irreducible_error.value, law.exponent.value) == (pytest.approx(0.1), pytest.approx(-0.4))
    assert law.confidence_band([1e5]).value_N[0] == pytest.approx(with_limit(1e5))
    assert law.p_value < 1e-9
    assert fit_power_law(compute, with_limit(compute)).prediction_band([1e5]).high_N[0] < 0.07  # misses 0.105


@pytest.mark.parametrize("unit", [1.0, 1e9])
def test_the_law_with_a_limit_and_its_intervals_are_those_of_curve_fit(unit):
    compute = np.geomspace(1, 300, 7)
    error = with_limit(compute) * np.exp(np.random.default_rng(0).normal(size=7) * 0.02)
    law = fit_law_with_limit(compute * unit, error)
    value, covariance = curve_fit(
        lambda x, limit, log_scale, exponent: np.log(limit + np.exp(log_scale + exponent * x)),
        np.log(compute),
        np.log(error),
        (0.1, -0.7, -0.4),
        xtol=1e-12,
    )
    half_width = t.ppf(0.975, 4) * np.sqrt(np.diag(covariance))
    for score, row in ((law.irreducible_error, 0), (law.exponent, 2)):
        assert score.value == pytest.approx(value[row], rel=1e-3)
        assert score.high - score.value == pytest.approx(half_width[row], rel=1e-3)


def test_the_intervals_of_a_law_with_a_limit_cover_the_truth():
    """60 simulated families of six runs."""
    rng, compute = np.random.default_rng(0), np.geomspace(1, 1000, 6)
    num_covered = np.zeros(4)
    for _ in range(60):
        law = fit_law_with_limit(compute, with_limit(compute) * np.exp(rng.normal(size=6) * 0.03))
        limit, exponent = law.irreducible_error, law.exponent
        curve, run = law.confidence_band([1e4]), law.prediction_band([1e4])
        new = with_limit(1e4) * np.exp(rng.normal() * 0.03)
        num_covered += [
            limit.low <= 0.1 <= limit.high,
            exponent.low <= -0.4 <= exponent.high,
            curve.low_N[0] <= with_limit(1e4) <= curve.high_N[0],
            run.low_N[0] <= new <= run.high_N[0],
        ]
    assert (num_covered / 60 > 0.88).all()


def test_a_power_law_without_a_limit_seldom_seems_to_have_one():
    rng, compute = np.random.default_rng(0), np.geomspace(1, 1000, 6)
    laws = [fit_law_with_limit(compute, 0.6 * compute**-0.2 * np.exp(rng.normal(size=6) * 0.03)) for _ in range(40)]
    assert sum(law.p_value < 0.05 for law in laws) <= 4
    assert all(law.irreducible_error.low >= 0 for law in laws)


def test_a_growing_error_has_a_law_with_a_limit():
    """Neither fit assumes that more compute helps."""
    compute = np.geomspace(1, 100, 6)
    law = fit_law_with_limit(compute, 0.1 + 0.01 * compute**0.5)
    assert (law.irreducible_error.value, law.exponent.value) == (
        pytest.approx(0.1, rel=1e-3),
        pytest.approx(0.5, rel=1e-3),
    )


def test_too_few_runs_for_a_limit_are_refused():
    with pytest.raises(DataError, match="at least 5 runs"):
        fit_law_with_limit([1, 2, 3, 4], [0.5, 0.4, 0.3, 0.25])
    with pytest.raises(DataError, match="only 2 different compute values"):
        fit_law_with_limit([1, 1, 1, 2, 2], [0.5, 0.51, 0.49, 0.4, 0.41])


def test_runs_without_a_line_are_refused():
    with pytest.raises(DataError, match="at least 3 runs"):
        fit_power_law([1, 2], [0.5, 0.4])
    with pytest.raises(DataError, match="3 amounts of compute with 2 errors"):
        fit_power_law([1, 2, 3], [0.5, 0.4])
    with pytest.raises(DataError, match="needs runs with different compute"):
        fit_power_law([2, 2, 2], [0.5, 0.4, 0.3])
    for compute, error in ((0, 0.5), (-1, 0.5), (3, 0), (3, 1.5), (3, float("nan")), (float("nan"), 0.5)):
        with pytest.raises(DataError, match="run 2"):
            fit_power_law([1, 2, compute], [0.5, 0.4, error])
