"""Accuracy by group, of the worst group, and the gap between best and worst.

CLIP §7.1 reports this for FairFace; here it works for any column of a table.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from zebra.errors import DataError
from zebra.protocols.metrics import proportion
from zebra.values import Score

MIN_GROUP_SIZE = 30
"""Groups with fewer images are marked as small and do not count for the worst group and the gap."""
UNSPECIFIED_GROUP = "(unspecified)"
"""The group of images without a value in the column."""
CAVEATS = (
    "Equal accuracy is not fairness: the cost of an error can differ between groups even if the error rate does not.",
    "The groups are those that the authors of the table assigned. People who are not in the table are not measured.",
    "A small gap does not carry over to other labels, prompts or images: each set of labels is another classifier.",
    "Groups can differ in their images (light, distance, classes), so a gap alone does not show its cause.",
)  # fmt: skip
"""Caveats to show next to any table of groups."""


@dataclass(frozen=True, slots=True)
class GroupScores:
    """Accuracy by group."""

    scores: Mapping[str, Score]
    """Accuracy of each group with its own 95% interval, lowest first; includes small groups."""
    small_groups: tuple[str, ...]
    """Groups with fewer than `min_group_size` images: too few to compare."""
    worst: Score | None
    """Accuracy of the worst group, with a 95% interval that accounts for its selection; None if all are small."""
    gap: Score | None
    """Best minus worst accuracy, with such an interval; None with fewer than two groups that are not small."""
    caveats: tuple[str, ...] = CAVEATS


def score_by_group(
    correct_N: NDArray[np.bool_], group_N: Sequence[object], min_group_size: int = MIN_GROUP_SIZE
) -> GroupScores:
    """Compute accuracy by group.

    The lowest of several accuracies is low partly by chance. The intervals of `worst` and `gap` therefore use exact
    intervals of all G groups that hold simultaneously (Clopper-Pearson at 1 − 0.05 / G).

    Args:
        correct_N: Whether each image was classified correctly.
        group_N: The group of each image; empty values form a group of their own.
        min_group_size: Fewest images of a group that is compared.

    Raises:
        DataError: The arguments differ in length, or there are no images.
    """
    if len(correct_N) != len(group_N):
        raise DataError(f"{len(correct_N)} results but {len(group_N)} group values. Pass one group for each image.")
    if not len(correct_N):
        raise DataError("cannot compare groups: the dataset has no images")
    name_N = np.array([UNSPECIFIED_GROUP if value is None or value == "" else str(value) for value in group_N])
    names, index_N = np.unique(name_N, return_inverse=True)
    total_G = np.bincount(index_N)
    correct_G = np.bincount(index_N[np.asarray(correct_N, dtype=bool)], minlength=len(names))
    scores = {
        str(name): proportion(int(correct), int(total))
        for name, correct, total in zip(names, correct_G, total_G, strict=True)
    }
    is_large_G = total_G >= min_group_size
    return GroupScores(
        dict(sorted(scores.items(), key=lambda item: item[1].value)),
        tuple(str(name) for name in names[~is_large_G]),
        *_score_worst_and_gap(correct_G[is_large_G], total_G[is_large_G]),
    )


def _score_worst_and_gap(correct_G: NDArray[np.int64], total_G: NDArray[np.int64]) -> tuple[Score | None, Score | None]:
    if not len(total_G):
        return None, None
    tail = 0.025 / len(total_G)
    low_G = np.where(correct_G > 0, beta.ppf(tail, correct_G, total_G - correct_G + 1), 0.0)
    high_G = np.where(correct_G < total_G, beta.ppf(1 - tail, correct_G + 1, total_G - correct_G), 1.0)
    accuracy_G, n = correct_G / total_G, int(total_G.sum())
    worst = Score(float(accuracy_G.min()), float(low_G.min()), float(high_G.min()), n)
    if len(total_G) == 1:
        return worst, None
    # If every group is inside its interval, the best is in [max low, max high] and the worst in [min low, min high].
    low, high = max(0.0, float(low_G.max() - high_G.min())), float(high_G.max() - low_G.min())
    return worst, Score(float(np.ptp(accuracy_G)), low, high, n)
