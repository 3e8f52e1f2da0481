"""Effect of near duplicates in the training data on accuracy (CLIP §5).

Any duplicate detector can be used; this module only needs to know which evaluation images have a near duplicate.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, hypergeom

from zebra.errors import DataError
from zebra.protocols.metrics import proportion
from zebra.values import Score

CONFIDENCE_LEVEL = 0.995
"""Confidence level of the Clopper-Pearson interval, as in the paper."""


@dataclass(frozen=True, slots=True)
class OverlapScores:
    """Accuracy with and without the images that have a near duplicate in the training data."""

    all: Score
    clean: Score | None
    """Accuracy on images without a duplicate; None if every image has one."""
    overlap: Score | None
    """Accuracy on images with a duplicate; None if no image has one, as in 9 of the paper's 35 datasets."""
    overlap_interval: tuple[float, float] | None
    """Exact 99.5% interval (Clopper-Pearson) of the accuracy on the overlap."""
    contamination: Score
    """Fraction of the images that have a duplicate."""
    binomial_p_value: float | None
    """The paper's one-tailed test of the hypothesis that the overlap is not easier than the clean images.

    It takes the accuracy on the clean images as exact. With as few clean images as duplicates it rejects a true
    hypothesis in 11% of cases instead of 5%.
    """
    fisher_p_value: float | None
    """Fisher's exact test of the same hypothesis, one-tailed; right for any number of clean images."""

    @property
    def inflation(self) -> float:
        """Return all − clean, the increase of accuracy by duplicates; 0 if no image is clean."""
        return self.all.value - self.clean.value if self.clean else 0.0


def evaluate_overlap(correct_N: NDArray[np.bool_], is_duplicate_N: NDArray[np.bool_]) -> OverlapScores:
    """Compare accuracy on images with and without a duplicate in the training data.

    Args:
        correct_N: Whether each evaluation image was classified correctly.
        is_duplicate_N: Whether it has a near duplicate in the training data.

    Raises:
        DataError: The arguments differ in length, or there are no images.
    """
    if len(correct_N) != len(is_duplicate_N):
        raise DataError(
            f"correct_N has {len(correct_N)} images but is_duplicate_N has {len(is_duplicate_N)}. Pass one value per "
            "image in both."
        )
    correct_N, is_duplicate_N = np.asarray(correct_N, dtype=bool), np.asarray(is_duplicate_N, dtype=bool)
    num_duplicates, n = int(is_duplicate_N.sum()), len(is_duplicate_N)
    num_correct, num_correct_duplicates = int(correct_N.sum()), int(correct_N[is_duplicate_N].sum())
    clean = proportion(num_correct - num_correct_duplicates, n - num_duplicates) if num_duplicates < n else None
    test = (
        binomtest(num_correct_duplicates, num_duplicates, clean.value if clean else 1.0, "greater")
        if num_duplicates
        else None
    )
    exact = (
        binomtest(num_correct_duplicates, num_duplicates).proportion_ci(CONFIDENCE_LEVEL) if num_duplicates else None
    )
    return OverlapScores(
        all=proportion(num_correct, n),
        clean=clean,
        overlap=proportion(num_correct_duplicates, num_duplicates) if num_duplicates else None,
        overlap_interval=(float(exact.low), float(exact.high)) if exact else None,
        contamination=proportion(num_duplicates, n),
        binomial_p_value=float(test.pvalue) if test and clean else None,
        fisher_p_value=(
            float(hypergeom.sf(num_correct_duplicates - 1, n, num_correct, num_duplicates)) if test and clean else None
        ),
    )


def bonferroni_correction(p_values: Mapping[str, float | None]) -> dict[str, float]:
    """Multiply the p-value of each dataset by the number of tested datasets, up to 1; leave out those without one."""
    tested = {name: p_value for name, p_value in p_values.items() if p_value is not None}
    return {name: min(1.0, p_value * len(tested)) for name, p_value in tested.items()}
