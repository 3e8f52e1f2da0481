"""Right or wrong per evaluation picture, and which have a near duplicate in training, in; what that gained out.

The analysis of CLIP §5 and its appendix. Finding duplicates is another room's work: any detector will do that gives
each evaluation picture its similarity, or distance, to the nearest training picture.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest

from zebra.errors import DataError
from zebra.protocols.metrics import proportion
from zebra.values import Score

CONFIDENCE_LEVEL = 0.995
"""Of the Clopper-Pearson interval, as in the paper."""


@dataclass(frozen=True, slots=True)
class OverlapScores:
    """Accuracy with and without the pictures that were seen in training."""

    all: Score
    clean: Score | None
    """None if every picture has a duplicate: then there is nothing to compare with."""
    overlap: Score | None
    """None if no picture has a duplicate, as with 9 of the paper's 35 sets."""
    overlap_interval: tuple[float, float] | None
    """Exact 99.5 % interval (Clopper-Pearson) of the accuracy on the overlap."""
    contamination: Score
    """Share of the pictures that have a duplicate."""
    p_value: float | None
    """One-tailed binomial test: the chance of so many right answers on the overlap, were it no easier than Clean."""

    @property
    def inflation(self) -> float:
        """Return All − Clean: by how much duplicates raised the reported accuracy; 0 where there is no Clean."""
        return self.all.value - self.clean.value if self.clean else 0.0


def duplicates(
    nearest_N: ArrayLike, threshold: float, measure: Literal["similarity", "distance"]
) -> NDArray[np.bool_]:
    """Mark the pictures whose nearest training picture is as close as the threshold, or closer.

    The paper sets it for each data set by eye, for few false alarms: pictures just beyond it deserve a look.

    Raises:
        DataError: A similarity or distance is NaN, and would be taken for a clean picture.
    """
    value_N = np.asarray(nearest_N, dtype=np.float64)
    if np.isnan(value_N).any():
        raise DataError(
            f"the {measure} of picture {int(np.isnan(value_N).argmax())} to training is NaN; compute it again"
        )
    marked_N: NDArray[np.bool_] = value_N >= threshold if measure == "similarity" else value_N <= threshold
    return marked_N


def evaluate_overlap(correct_N: NDArray[np.bool_], is_duplicate_N: NDArray[np.bool_]) -> OverlapScores:
    """Compare the pictures that have a duplicate in training with those that have none.

    Args:
        correct_N: Whether each evaluation picture was classified correctly.
        is_duplicate_N: Whether it has a near duplicate in training, from `duplicates`.

    Raises:
        DataError: The two differ in length, or there is no picture.
    """
    if len(correct_N) != len(is_duplicate_N):
        raise DataError(
            f"{len(correct_N)} outcomes but {len(is_duplicate_N)} neighbours; pass one for each picture"
        )
    correct_N, is_duplicate_N = np.asarray(correct_N, dtype=bool), np.asarray(is_duplicate_N, dtype=bool)
    found, n = int(is_duplicate_N.sum()), len(is_duplicate_N)
    right, right_found = int(correct_N.sum()), int(correct_N[is_duplicate_N].sum())
    clean = proportion(right - right_found, n - found) if found < n else None
    test = binomtest(right_found, found, clean.value if clean else 1.0, "greater") if found else None
    exact = binomtest(right_found, found).proportion_ci(CONFIDENCE_LEVEL) if found else None
    return OverlapScores(
        all=proportion(right, n),
        clean=clean,
        overlap=proportion(right_found, found) if found else None,
        overlap_interval=(float(exact.low), float(exact.high)) if exact else None,
        contamination=proportion(found, n),
        p_value=float(test.pvalue) if test and clean else None,
    )


def bonferroni_correction(scores: Mapping[str, OverlapScores]) -> dict[str, float]:
    """Return each set's p times the number of sets tested, at most 1; sets without overlap or Clean are not tested."""
    tested = {name: found.p_value for name, found in scores.items() if found.p_value is not None}
    return {name: min(1.0, p * len(tested)) for name, p in tested.items()}
