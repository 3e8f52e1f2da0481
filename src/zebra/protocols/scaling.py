"""Compute and error of a family of runs in, the line between their logarithms out, with its bands (CLIP Fig. 9)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student

from zebra.errors import DataError
from zebra.values import Score

MIN_RUNS = 3
"""Runs: two leave nothing to tell the scatter from."""


@dataclass(frozen=True, slots=True)
class ErrorBand:
    """Errors at N amounts of compute."""

    value_N: NDArray[np.float64]
    low_N: NDArray[np.float64]
    high_N: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PowerLaw:
    """Error = scale · compute ^ exponent, fitted on logarithms; exact for the runs measured, a guess beyond them."""

    exponent: Score
    """Slope on log-log axes with its 95 % interval (Student's t); n is the number of runs."""
    scale: float
    residual_std: float
    """Standard deviation of log error around the line."""
    log_compute_mean: float
    """Mean of log compute; natural logarithms throughout."""
    log_compute_sum_squares: float
    """Sum of squares of log compute around its mean."""

    def confidence_band(self, compute_N: ArrayLike) -> ErrorBand:
        """Return the line with the 95 % interval of where it lies."""
        return self._compute_band(compute_N, 0.0)

    def prediction_band(self, compute_N: ArrayLike) -> ErrorBand:
        """Return the line with the 95 % interval of where one further run would lie."""
        return self._compute_band(compute_N, 1.0)

    def _compute_band(self, compute_N: ArrayLike, noise: float) -> ErrorBand:
        x_N = np.log(np.asarray(compute_N, dtype=np.float64))
        runs = self.exponent.n
        y_N = math.log(self.scale) + self.exponent.value * x_N
        reach_N = (
            student.ppf(0.975, runs - 2)
            * self.residual_std
            * np.sqrt(noise + 1 / runs + (x_N - self.log_compute_mean) ** 2 / self.log_compute_sum_squares)
        )
        return ErrorBand(np.exp(y_N), np.exp(y_N - reach_N), np.exp(y_N + reach_N))


def fit_power_law(compute: Sequence[float], error: Sequence[float]) -> PowerLaw:
    """Fit log error to log compute by least squares.

    Args:
        compute: Of each run, in any unit (FLOP per image, samples seen), above 0.
        error: Of each run, in (0, 1]; the paper's is 1 − accuracy, averaged over evaluations.

    Raises:
        DataError: Fewer than three runs, all of one compute, or a value whose logarithm does not exist.
    """
    if len(compute) != len(error) or len(compute) < MIN_RUNS:
        raise DataError(
            f"{len(compute)} amounts of compute with {len(error)} errors; pass both for at least {MIN_RUNS} runs, "
            "since two leave no scatter to judge the line by"
        )
    for run, (cost, miss) in enumerate(zip(compute, error, strict=True)):
        if not (0 < cost < math.inf and 0 < miss <= 1):
            raise DataError(
                f"run {run} has compute {cost} and error {miss}; compute must be above 0 and error in (0, 1], "
                "since both are drawn on log axes: leave out runs without a mistake"
            )
    x_N, y_N = np.log(np.asarray(compute, dtype=float)), np.log(np.asarray(error, dtype=float))
    if np.ptp(x_N) == 0:
        raise DataError(f"all {len(x_N)} runs have the compute {compute[0]}; a line needs a spread")
    runs, mean = len(x_N), float(x_N.mean())
    spread = float(((x_N - mean) ** 2).sum())
    slope = float(((x_N - mean) * y_N).sum()) / spread
    start = float(y_N.mean()) - slope * mean
    scatter = math.sqrt(float(((y_N - start - slope * x_N) ** 2).sum()) / (runs - 2))
    reach = float(student.ppf(0.975, runs - 2)) * scatter / math.sqrt(spread)
    return PowerLaw(Score(slope, slope - reach, slope + reach, runs), math.exp(start), scatter, mean, spread)
