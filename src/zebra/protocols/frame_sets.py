"""Accuracy that must hold on all neighboring frames (pm-k; Shankar et al. 2021)."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from zebra.errors import DataError
from zebra.protocols.metrics import clustered_proportion, proportion
from zebra.values import Score


def score_frame_sets(correct_M: NDArray[np.bool_], frame_sets: Sequence[Sequence[int]]) -> Mapping[str, Score]:
    """Return pm0, pm10 and pm0_pm10, their mean, which the CLIP paper reports.

    pm0 is the accuracy on the anchor frames. For pm10 the anchor and all its neighbors within ten frames, as far as
    the dataset has them, must be right. The interval of the mean treats both values of an anchor as one cluster.

    Args:
        correct_M: Whether each frame is right.
        frame_sets: Positions of the frames of each set, the anchor first.

    Raises:
        DataError: There are no sets, or one is empty.
    """
    if not frame_sets or not all(frame_sets):
        raise DataError("pm-k accuracy needs sets of at least one frame; got none, or an empty one")
    anchor_N = np.array([correct_M[frames[0]] for frames in frame_sets])
    all_N = np.array([correct_M[list(frames)].all() for frames in frame_sets])
    n = len(frame_sets)
    both = clustered_proportion(np.concatenate([anchor_N, all_N]), np.tile(np.arange(n), 2))
    return {
        "pm0_pm10": Score(both.value, both.low, both.high, n),
        "pm0": proportion(int(anchor_N.sum()), n),
        "pm10": proportion(int(all_N.sum()), n),
    }
