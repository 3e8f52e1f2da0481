"""Best scores of several models on one dataset (CLIP Table 10)."""

from collections.abc import Mapping

from scipy.stats import beta

from zebra.errors import DataError
from zebra.values import Score

BEST_CONFIDENCE = 0.995
"""Confidence of the interval of the best score, as in the paper's Table 10."""


def clopper_pearson(value: float, n: int, confidence: float) -> tuple[float, float]:
    """Return the exact interval of a proportion of n samples (Clopper and Pearson 1934).

    Args:
        value: In [0, 1]; a score that is no proportion counts as one of n samples.

    Raises:
        DataError: The value is not in [0, 1], or n is 0.
    """
    if not 0 <= value <= 1 or n < 1:
        raise DataError(f"an exact interval needs a value in [0, 1] of at least one sample; got {value} of {n}")
    tail, num_correct = (1 - confidence) / 2, value * n
    low = float(beta.ppf(tail, num_correct, n - num_correct + 1)) if num_correct > 0 else 0.0
    high = float(beta.ppf(1 - tail, num_correct + 1, n - num_correct)) if num_correct < n else 1.0
    return low, high


def find_best_models(scores: Mapping[str, Score], confidence: float = BEST_CONFIDENCE) -> tuple[str, ...]:
    """Return the models whose score on one dataset is inside the exact interval of the highest score.

    Args:
        scores: Model → score.
        confidence: That of the interval.

    Raises:
        DataError: There are no models, or a score is not in [0, 1].
    """
    if not scores:
        raise DataError("no scores of models to compare")
    best = max(scores.values(), key=lambda score: score.value)
    low, _ = clopper_pearson(best.value, best.n, confidence)
    return tuple(model for model, score in scores.items() if score.value >= low)
