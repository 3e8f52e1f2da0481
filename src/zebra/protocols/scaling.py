"""Power laws of error against compute, with uncertainty bands (CLIP Fig. 9).

The paper's law is a line on logarithmic axes. An error that approaches a limit bends away from such a line; for it,
`fit_law_with_limit` adds an irreducible error (Henighan et al. 2020).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import least_squares
from scipy.stats import f as f_distribution
from scipy.stats import t as student

from zebra.errors import DataError
from zebra.protocols.line_fit import MIN_POINTS, LineFit, fit_line
from zebra.values import Score

MIN_RUNS_WITH_LIMIT = 5
"""Fewest runs for a law of three parameters, two more than parameters."""


@dataclass(frozen=True, slots=True)
class ErrorBand:
    """Errors at N amounts of compute, with the ends of their interval."""

    value_N: NDArray[np.float64]
    low_N: NDArray[np.float64]
    high_N: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PowerLaw:
    """Error = scale · compute ^ exponent, fitted on logarithms.

    Outside the measured runs it is an extrapolation.
    """

    fit: LineFit
    """Log error against log compute."""

    @property
    def exponent(self) -> Score:
        """Slope on log-log axes with its 95% interval (Student's t); n is the number of runs."""
        slope, half_width = self.fit.slope, self.fit.slope_half_width
        return Score(slope, slope - half_width, slope + half_width, self.fit.n)

    @property
    def scale(self) -> float:
        """Error at a compute of 1."""
        return math.exp(self.fit.intercept)

    def confidence_band(self, compute_N: ArrayLike) -> ErrorBand:
        """Return the law with its 95% confidence interval."""
        return self._compute_band(compute_N, is_new_run=False)

    def prediction_band(self, compute_N: ArrayLike) -> ErrorBand:
        """Return the law with the 95% prediction interval of one more run."""
        return self._compute_band(compute_N, is_new_run=True)

    def _compute_band(self, compute_N: ArrayLike, *, is_new_run: bool) -> ErrorBand:
        x_N = np.log(np.asarray(compute_N, dtype=np.float64))
        return _error_band(self.fit.predict(x_N), self.fit.half_width(x_N, is_new_point=is_new_run))


@dataclass(frozen=True, slots=True)
class PowerLawWithLimit:
    """Error = irreducible error + scale · compute ^ exponent, fitted on natural logarithms of the error."""

    parameters: NDArray[np.float64]
    """[irreducible error, log of the reducible error at `log_compute_mean`, exponent]."""
    covariance: NDArray[np.float64]
    """Covariance [3, 3] of the parameters."""
    residual_std: float
    """Standard deviation of log error around the law, with n − 3 degrees of freedom."""
    log_compute_mean: float
    num_runs: int
    p_value: float
    """F test of the hypothesis that the irreducible error is 0."""

    @property
    def irreducible_error(self) -> Score:
        """The error that unlimited compute approaches; the interval is cut at 0."""
        score = self._parameter_score(0)
        return Score(score.value, max(0.0, score.low), score.high, score.n)

    @property
    def exponent(self) -> Score:
        """The exponent of the reducible error."""
        return self._parameter_score(2)

    def confidence_band(self, compute_N: ArrayLike) -> ErrorBand:
        """Return the law with its 95% confidence interval (delta method)."""
        return self._compute_band(compute_N, 0.0)

    def prediction_band(self, compute_N: ArrayLike) -> ErrorBand:
        """Return the law with the 95% prediction interval of one more run."""
        return self._compute_band(compute_N, self.residual_std**2)

    def _parameter_score(self, index: int) -> Score:
        value = float(self.parameters[index])
        half_width = self._quantile * math.sqrt(float(self.covariance[index, index]))
        return Score(value, value - half_width, value + half_width, self.num_runs)

    def _compute_band(self, compute_N: ArrayLike, noise: float) -> ErrorBand:
        x_N = np.log(np.asarray(compute_N, dtype=np.float64)) - self.log_compute_mean
        gradient_N3 = _log_error_gradient(self.parameters, x_N)
        variance_N = np.einsum("ni,ij,nj->n", gradient_N3, self.covariance, gradient_N3)
        return _error_band(_log_error(self.parameters, x_N), self._quantile * np.sqrt(noise + variance_N))

    @property
    def _quantile(self) -> float:
        return float(student.ppf(0.975, self.num_runs - 3))


def fit_power_law(compute: Sequence[float], error: Sequence[float]) -> PowerLaw:
    """Fit log error to log compute by least squares.

    Args:
        compute: The compute of each run, in any unit (FLOP per image, samples seen), above 0.
        error: The error of each run, in (0, 1]; in the paper, 1 − accuracy, averaged over evaluations.

    Raises:
        DataError: Fewer than three runs, equal compute in all runs, or a value without a logarithm.
    """
    return PowerLaw(fit_line(*_check_runs(compute, error, MIN_POINTS)))


def fit_law_with_limit(compute: Sequence[float], error: Sequence[float]) -> PowerLawWithLimit:
    """Fit a power law with an irreducible error, by least squares on log error.

    Args:
        compute: The compute of each run, as for `fit_power_law`.
        error: The error of each run, in (0, 1].

    Raises:
        DataError: Fewer than five runs, fewer than three different amounts of compute, or a value without a logarithm.
    """
    x_N, y_N = _check_runs(compute, error, MIN_RUNS_WITH_LIMIT)
    if len(np.unique(x_N)) < 3:
        raise DataError(f"the runs have only {len(np.unique(x_N))} different compute values. A limit needs three.")
    line = fit_line(x_N, y_N)
    centered_N, error_N, max_limit = x_N - line.x_mean, np.exp(y_N), float(np.exp(y_N.min()))
    solutions = []
    for limit in (0.0, 0.5 * max_limit, 0.9 * max_limit):  # the loss has several local minima
        start = fit_line(centered_N, np.log(error_N - limit))
        solutions.append(
            least_squares(
                lambda parameters: _log_error(parameters, centered_N) - y_N,
                (limit, start.intercept, start.slope),
                jac=lambda parameters: _log_error_gradient(parameters, centered_N),
                bounds=([0, -np.inf, -np.inf], [max_limit, np.inf, np.inf]),
                x_scale=(max_limit, 1, 1),
            )
        )
    best = min(solutions, key=lambda solution: float(solution.cost))
    degrees = len(x_N) - 3
    sum_squares, line_sum_squares = 2 * float(best.cost), line.residual_std**2 * (len(x_N) - 2)
    variance = sum_squares / degrees
    gradient_N3 = _log_error_gradient(best.x, centered_N)
    gain = max(0.0, line_sum_squares - sum_squares)
    return PowerLawWithLimit(
        parameters=best.x,
        covariance=np.asarray(np.linalg.pinv(gradient_N3.T @ gradient_N3) * variance, dtype=np.float64),
        residual_std=math.sqrt(variance),
        log_compute_mean=line.x_mean,
        num_runs=len(x_N),
        p_value=float(f_distribution.sf(gain / variance, 1, degrees)) if gain > 0 else 1.0,
    )


def _check_runs(
    compute: Sequence[float], error: Sequence[float], min_runs: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return log compute and log error."""
    if len(compute) != len(error) or len(compute) < min_runs:
        raise DataError(
            f"{len(compute)} amounts of compute with {len(error)} errors. Pass both for at least {min_runs} runs; "
            "fewer do not show the scatter around the law."
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
    return x_N, y_N


def _log_error(parameters: NDArray[np.float64], x_N: NDArray[np.float64]) -> NDArray[np.float64]:
    limit, log_reducible, exponent = parameters
    value_N: NDArray[np.float64] = np.log(limit + np.exp(log_reducible + exponent * x_N))
    return value_N


def _log_error_gradient(parameters: NDArray[np.float64], x_N: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the derivatives [N, 3] of `_log_error`."""
    limit, log_reducible, exponent = parameters
    reducible_N = np.exp(log_reducible + exponent * x_N)
    derivative_3N = np.stack([np.ones_like(x_N), reducible_N, x_N * reducible_N])
    gradient_N3: NDArray[np.float64] = (derivative_3N / (limit + reducible_N)).T
    return gradient_N3


def _error_band(log_error_N: NDArray[np.float64], half_width_N: NDArray[np.float64]) -> ErrorBand:
    return ErrorBand(np.exp(log_error_N), np.exp(log_error_N - half_width_N), np.exp(log_error_N + half_width_N))
