"""The mean score of a suite of datasets with its 95 % interval."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

from zebra.errors import DataError, ShapeError
from zebra.values import Score


def suite_mean(scores: Sequence[Score], groups: Sequence[str] = (), collections: Sequence[str] = ()) -> Score:
    """Return the mean of scores on different datasets, or the mean of the means of groups of them.

    The datasets are fixed and their images random. Scores on different images are independent, so that the distances
    to the ends of their intervals add up in quadrature (Zou and Donner 2008). The distances of scores on shared images
    are added: the interval is right if these scores rise and fall together, and else too wide.

    Args:
        scores: At least one score.
        groups: One name per score for the mean of means; () for the plain mean.
        collections: Names of the image collections, one per score, empty for images of its own; () if all are.

    Raises:
        DataError: There are no scores.
        ShapeError: There is not one group or collection per score.
    """
    if not scores:
        raise DataError("cannot compute the mean of a suite without scores")
    groups, collections = groups or [""] * len(scores), collections or [""] * len(scores)
    if not len(scores) == len(groups) == len(collections):
        raise ShapeError(f"{len(scores)} scores, {len(groups)} groups and {len(collections)} collections must be equal")
    sizes = Counter(groups)
    weights = [1 / (len(sizes) * sizes[group]) for group in groups]
    value = math.fsum(weight * score.value for weight, score in zip(weights, scores, strict=True))
    below: defaultdict[str | int, float] = defaultdict(float)
    above: defaultdict[str | int, float] = defaultdict(float)
    for index, (weight, score, collection) in enumerate(zip(weights, scores, collections, strict=True)):
        below[collection or index] += weight * (score.value - score.low)
        above[collection or index] += weight * (score.high - score.value)
    half_below, half_above = math.hypot(*below.values()), math.hypot(*above.values())
    return Score(value, value - half_below, value + half_above, sum(score.n for score in scores))
