"""Tests of the power law of error against compute."""

import numpy as np
import pytest
from scipy.stats import linregress, t

from zebra.errors import DataError
from zebra.protocols.scaling import fit_power_law

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
