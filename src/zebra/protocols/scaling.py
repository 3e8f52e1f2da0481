"""Power law of error against compute, with uncertainty bands (CLIP Fig. 9)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student

from zebra.errors import DataError
from zebra.values import Score

MIN_RUNS = 3
"""Fewest runs; with two, the scatter cannot be estimated."""


@dataclass(frozen=True, slots=True)
class ErrorBand:
    """Errors at N amounts of compute, with the ends of their interval."""

    value_N: NDArray[np.float64]
    low_N: NDArray[np.float64]
    high_N: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PowerLaw:
    """Error = scale · compute ^ exponent, fitted on logarithms; outside the measured runs it is an extrapolation."""

    exponent: Score
    """Slope on log-log axes with its 95% interval (Student's t); n is the number of runs."""
    scale: float
    residual_std: float
    """Standard deviation of log error around the line."""
    log_compute_mean: float
    """Mean of log compute; all logarithms are natural."""
    log_compute_sum_squares: float
    """Sum of squared deviations of log compute from its mean."""

    def confidence_band(self, compute_N: ArrayLike) -> ErrorBand:
        """Return the line with its 95% confidence interval."""
        return self._compute_band(compute_N, 0.0)

    def prediction_band(self, compute_N: ArrayLike) -> ErrorBand:
        """Return the line with the 95% prediction interval of one more run."""
        return self._compute_band(compute_N, 1.0)

    def _compute_band(self, compute_N: ArrayLike, noise: float) -> ErrorBand:
        x_N = np.log(np.asarray(compute_N, dtype=np.float64))
        num_runs = self.exponent.n
        y_N = math.log(self.scale) + self.exponent.value * x_N
        half_width_N = (
            student.ppf(0.975, num_runs - 2)
            * self.residual_std
            * np.sqrt(noise + 1 / num_runs + (x_N - self.log_compute_mean) ** 2 / self.log_compute_sum_squares)
        )
        return ErrorBand(np.exp(y_N), np.exp(y_N - half_width_N), np.exp(y_N + half_width_N))


def fit_power_law(compute: Sequence[float], error: Sequence[float]) -> PowerLaw:
    """Fit log error to log compute by least squares.

    Args:
        compute: The compute of each run, in any unit (FLOP per image, samples seen), above 0.
        error: The error of each run, in (0, 1]; in the paper, 1 − accuracy, averaged over evaluations.

    Raises:
        DataError: Fewer than three runs, equal compute in all runs, or a value without a logarithm.
    """
    if len(compute) != len(error) or len(compute) < MIN_RUNS:
        raise DataError(
            f"{len(compute)} amounts of compute with {len(error)} errors. Pass both for at least {MIN_RUNS} runs; two "
            "runs do not show the scatter around the line."
        )
    for run, (run_compute, run_error) in enumerate(zip(compute, error, strict=True)):
        if not (0 < run_compute < math.inf and 0 < run_error <= 1):
            raise DataError(
                f"run {run} has compute {run_compute} and error {run_error}. The fit uses logarithms: compute must be "
                "above 0 and error in (0, 1]. Leave out runs with an error of 0."
            )
    x_N, y_N = np.log(np.asarray(compute, dtype=float)), np.log(np.asarray(error, dtype=float))
    if np.ptp(x_N) == 0:
        raise DataError(f"all {len(x_N)} runs have the compute {compute[0]}. A line needs runs with different compute.")
    num_runs, mean = len(x_N), float(x_N.mean())
    sum_squares = float(((x_N - mean) ** 2).sum())
    slope = float(((x_N - mean) * y_N).sum()) / sum_squares
    intercept = float(y_N.mean()) - slope * mean
    residual_std = math.sqrt(float(((y_N - intercept - slope * x_N) ** 2).sum()) / (num_runs - 2))
    half_width = float(student.ppf(0.975, num_runs - 2)) * residual_std / math.sqrt(sum_squares)
    exponent = Score(slope, slope - half_width, slope + half_width, num_runs)
    return PowerLaw(exponent, math.exp(intercept), residual_std, mean, sum_squares)
