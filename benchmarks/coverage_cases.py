"""Cases of the simulation in coverage.py: how to draw a dataset, and its true value."""

from collections.abc import Callable
from dataclasses import dataclass

from zebra.values import Score


@dataclass(frozen=True, slots=True)
class IntervalCase:
    """A score whose interval is to contain the true value."""

    statistic: str
    settings: str
    truth: float | Callable[[], float]
    """The value, or a function that computes it when the case is simulated."""
    draw: Callable[[int], Score]
    """Draw the dataset of a seed and return its score."""


@dataclass(frozen=True, slots=True)
class TestCase:
    """A test of a hypothesis that is true."""

    statistic: str
    settings: str
    draw: Callable[[int], float]
    """Draw the dataset of a seed and return the p-value."""


Case = IntervalCase | TestCase
