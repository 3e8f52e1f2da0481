"""Right or wrong per picture, and a column that divides them, in; accuracy per group, the worst and the gap out.

It is what CLIP §7.1 reports of FairFace, for any column.
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
"""Pictures below which a group is reported, but marked, and not weighed in the worst group and the gap."""
UNSPECIFIED_GROUP = "(not stated)"
"""The group of pictures whose column is empty."""
CAVEATS = (
    "Equal accuracy is not fairness: what a wrong answer costs may differ between groups while its rate does not.",
    "The groups are those of one table, as its makers assigned them; whom they leave out is not measured.",
    "A small gap here says nothing about other labels, prompts or pictures: each choice of labels is a new classifier.",
    "Groups may differ in their pictures (light, distance, classes), so a gap alone does not name its cause.",
)  # fmt: skip
"""What to print beside any table of groups."""


@dataclass(frozen=True, slots=True)
class GroupScores:
    """Accuracy by group."""

    scores: Mapping[str, Score]
    """Each group's accuracy with its own 95 % interval, the worst first; small groups included."""
    small_groups: tuple[str, ...]
    """Groups of fewer pictures than asked for: too few to compare."""
    worst: Score | None
    """Of the worst group, with a 95 % interval that allows for its having been chosen; None if all are small."""
    gap: Score | None
    """Best less worst, likewise; None with fewer than two groups that are not small."""
    caveats: tuple[str, ...] = CAVEATS


def score_by_group(
    correct_N: NDArray[np.bool_], group_N: Sequence[object], min_group_size: int = MIN_GROUP_SIZE
) -> GroupScores:
    """Divide accuracy by a column.

    The smallest of several accuracies is found low partly by chance. The intervals of `worst` and `gap` therefore
    come from exact ones of all G groups that hold at once (Clopper-Pearson at 1 − 0.05 / G).

    Args:
        correct_N: Whether each picture was classified correctly.
        group_N: The column's value for each picture; an empty one counts as a group of its own.
        min_group_size: Pictures that a group needs to be compared.

    Raises:
        DataError: The two differ in length, or there is no picture.
    """
    if len(correct_N) != len(group_N):
        raise DataError(
            f"{len(correct_N)} outcomes but {len(group_N)} values of the column; pass one for each"
        )
    if not len(correct_N):
        raise DataError("no pictures, so no groups to compare; the data set is empty")
    name_N = np.array(
        [UNSPECIFIED_GROUP if value is None or value == "" else str(value) for value in group_N]
    )
    names, index_N = np.unique(name_N, return_inverse=True)
    total_G = np.bincount(index_N)
    right_G = np.bincount(index_N[np.asarray(correct_N, dtype=bool)], minlength=len(names))
    scores = {
        str(name): proportion(int(right), int(total))
        for name, right, total in zip(names, right_G, total_G, strict=True)
    }
    large = total_G >= min_group_size
    return GroupScores(
        dict(sorted(scores.items(), key=lambda item: item[1].value)),
        tuple(str(name) for name in names[~large]),
        *_score_worst_and_gap(right_G[large], total_G[large]),
    )


def _score_worst_and_gap(
    correct_G: NDArray[np.int64], total_G: NDArray[np.int64]
) -> tuple[Score | None, Score | None]:
    if not len(total_G):
        return None, None
    tail = 0.025 / len(total_G)
    low_G = np.where(correct_G > 0, beta.ppf(tail, correct_G, total_G - correct_G + 1), 0.0)
    high_G = np.where(correct_G < total_G, beta.ppf(1 - tail, correct_G + 1, total_G - correct_G), 1.0)
    share_G, n = correct_G / total_G, int(total_G.sum())
    worst = Score(float(share_G.min()), float(low_G.min()), float(high_G.min()), n)
    if len(total_G) == 1:
        return worst, None
    # With every group inside its interval, the best lies in [max low, max high], the worst in [min low, min high].
    low, high = max(0.0, float(low_G.max() - high_G.min())), float(high_G.max() - low_G.min())
    return worst, Score(float(np.ptp(share_G)), low, high, n)
