"""Accuracy by group, of the worst group, and the gap between best and worst.

CLIP §7.1 reports this for FairFace; here it works for any column of a table.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, norm, studentized_range

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

    The lowest of several accuracies is low partly by chance. The intervals of `worst` and `gap` account for the number
    of groups that may be the worst or the best.

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
    accuracy_G, n = correct_G / total_G, int(total_G.sum())
    low_G, high_G = _jeffreys_intervals(correct_G, total_G, 0.025)
    # Groups that may have the lowest or the highest true accuracy: all others almost certainly have not.
    certain_low_G, certain_high_G = _jeffreys_intervals(correct_G, total_G, 0.025 / len(total_G))
    is_low_G, is_high_G = certain_low_G <= certain_high_G.min(), certain_high_G >= certain_low_G.max()
    # The end below needs no correction: the lowest of the ends is at most that of the worst group. If several groups
    # may be the worst, it is hardly ever missed there, and the end above takes the whole 5 %.
    tail = 0.05 / max(2, int(is_low_G.sum()))
    worst_high = _jeffreys_intervals(correct_G, total_G, tail)[1].min()
    worst = Score(float(accuracy_G.min()), float(low_G.min()), float(worst_high), n)
    if len(total_G) == 1:
        return worst, None
    # The gap between k equal groups has the distribution of the studentized range (Tukey), which is that of a
    # difference for k = 2. Both intervals are combined as for a difference (Newcombe 1998).
    num_candidates = max(2, int((is_low_G | is_high_G).sum()))
    tail = float(norm.sf(studentized_range.ppf(0.95, num_candidates, np.inf) / math.sqrt(2)))
    range_low_G, range_high_G = _jeffreys_intervals(correct_G, total_G, tail)
    lowest, highest = int(accuracy_G.argmin()), int(accuracy_G.argmax())
    gap = float(np.ptp(accuracy_G))
    below = math.hypot(accuracy_G[highest] - range_low_G[highest], range_high_G[lowest] - accuracy_G[lowest])
    above = math.hypot(high_G[highest] - accuracy_G[highest], accuracy_G[lowest] - low_G[lowest])
    return worst, Score(gap, max(0.0, gap - below), min(1.0, gap + above), n)


def _jeffreys_intervals(
    correct_G: NDArray[np.int64], total_G: NDArray[np.int64], tail: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the ends with a probability of `tail` outside of each; their tails are more exact than Wilson's."""
    low_G = np.where(correct_G > 0, beta.ppf(tail, correct_G + 0.5, total_G - correct_G + 0.5), 0.0)
    high_G = np.where(correct_G < total_G, beta.isf(tail, correct_G + 0.5, total_G - correct_G + 0.5), 1.0)
    return low_G, high_G
