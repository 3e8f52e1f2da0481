"""Least-squares line with Student's t intervals."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student

MIN_POINTS = 3
"""Fewest points; with two, the scatter around the line cannot be estimated."""


@dataclass(frozen=True, slots=True)
class LineFit:
    """A line through n points, with the statistics of its uncertainty."""

    slope: float
    intercept: float
    residual_std: float
    """Standard deviation around the line, with n − 2 degrees of freedom."""
    x_mean: float
    x_sum_squares: float
    """Sum of squared deviations of x from its mean."""
    n: int

    def predict(self, x: ArrayLike) -> NDArray[np.float64]:
        """Return the values of the line."""
        return self.intercept + self.slope * np.asarray(x, dtype=np.float64)

    def half_width(self, x: ArrayLike, *, is_new_point: bool = False) -> NDArray[np.float64]:
        """Return half the width of the 95% interval of the line at `x`, or of one more point."""
        distance = (np.asarray(x, dtype=np.float64) - self.x_mean) ** 2 / self.x_sum_squares
        width: NDArray[np.float64] = self._error_factor * np.sqrt(float(is_new_point) + 1 / self.n + distance)
        return width

    @property
    def slope_half_width(self) -> float:
        """Half the width of the 95% interval of the slope."""
        return self._error_factor / math.sqrt(self.x_sum_squares)

    @property
    def _error_factor(self) -> float:
        return float(student.ppf(0.975, self.n - 2)) * self.residual_std


def fit_line(x_N: NDArray[np.float64], y_N: NDArray[np.float64]) -> LineFit:
    """Fit y to x by least squares; needs at least `MIN_POINTS` points with different x."""
    x_mean = float(x_N.mean())
    sum_squares = float(((x_N - x_mean) ** 2).sum())
    slope = float(((x_N - x_mean) * y_N).sum()) / sum_squares
    intercept = float(y_N.mean()) - slope * x_mean
    residual_std = math.sqrt(float(((y_N - intercept - slope * x_N) ** 2).sum()) / (len(x_N) - 2))
    return LineFit(slope, intercept, residual_std, x_mean, sum_squares, len(x_N))
