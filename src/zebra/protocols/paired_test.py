"""Paired comparison of two models on the same samples.

Paired bootstrap over samples (Efron and Tibshirani 1993, ch. 16) and mid-p test of McNemar (Fagerland et al. 2013).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from zebra.errors import DataError
from zebra.values import Score

_NUM_RESAMPLES = 10_000


@dataclass(frozen=True, slots=True)
class SampleScores:
    """Scores of one model on every sample."""

    ids: tuple[str, ...]
    value_N: NDArray[np.generic]
    """One value per sample: correct or wrong as bool, or any number whose mean is the score."""


@dataclass(frozen=True, slots=True)
class PairedComparison:
    """Difference between the first and the second model."""

    difference: Score
    """First minus second mean; the interval is the middle 95% of the resamples."""
    p_value: float
    """Two-sided bootstrap p-value of the hypothesis that the difference is 0; at least 2e-4."""
    num_wins: int
    """Samples on which the first model is better."""
    num_losses: int
    mcnemar_p_value: float | None
    """Two-sided mid-p test of McNemar of wins against losses; None unless all values are bool."""


def compare_paired(first: SampleScores, second: SampleScores, *, seed: int = 0) -> PairedComparison:
    """Compare two models sample by sample; the order of the samples may differ.

    Raises:
        DataError: The models have different samples, a sample occurs twice, there are none, or a value is NaN.
    """
    value_N, other_N = _check_scores(first), _check_scores(second)
    if set(first.ids) != set(second.ids):
        unpaired = sorted(set(first.ids) ^ set(second.ids))
        raise DataError(
            f"a paired comparison needs the same samples, but {len(unpaired)} belong to only one model, such as "
            f"{unpaired[0]!r}. Evaluate both models on the same version of the dataset."
        )
    row_by_id = {id: n for n, id in enumerate(second.ids)}
    difference_N = value_N - other_N[[row_by_id[id] for id in first.ids]]
    # A resample is the count of every distinct difference: only three numbers if the values are bool, however many
    # samples there are.
    difference_U, count_U = np.unique(difference_N, return_counts=True)
    n, rng = len(difference_N), np.random.default_rng(seed)
    rows = max(1, 2**20 // len(difference_U))
    resample_B = np.concatenate(
        [
            rng.multinomial(n, count_U / n, size=min(rows, _NUM_RESAMPLES - start)) @ difference_U / n
            for start in range(0, _NUM_RESAMPLES, rows)
        ]
    )
    value = float(difference_N.mean())
    low, high = np.quantile(resample_B, (0.025, 0.975))
    tail = min(int((resample_B <= 0).sum()), int((resample_B >= 0).sum()))
    num_wins, num_losses = int((difference_N > 0).sum()), int((difference_N < 0).sum())
    is_binary = first.value_N.dtype == np.bool_ and second.value_N.dtype == np.bool_
    return PairedComparison(
        difference=Score(value, min(float(low), value), max(float(high), value), n),
        p_value=min(1.0, 2 * (tail + 1) / (_NUM_RESAMPLES + 1)),
        num_wins=num_wins,
        num_losses=num_losses,
        mcnemar_p_value=_mcnemar_p_value(num_wins, num_losses) if is_binary else None,
    )


def _mcnemar_p_value(num_wins: int, num_losses: int) -> float:
    # The observed split counts by half: the exact test, which counts it in full, rejects too rarely.
    n, fewer = num_wins + num_losses, min(num_wins, num_losses)
    return min(1.0, float(2 * binom.cdf(fewer, n, 0.5) - binom.pmf(fewer, n, 0.5)))


def _check_scores(scores: SampleScores) -> NDArray[np.float64]:
    if len(scores.ids) != len(scores.value_N):
        raise DataError(f"{len(scores.ids)} ids but {len(scores.value_N)} values. Pass one id for each value.")
    if not scores.ids:
        raise DataError("cannot compare models on 0 samples: the dataset is empty")
    if len(set(scores.ids)) != len(scores.ids):
        duplicate = next(id for n, id in enumerate(scores.ids) if id in scores.ids[:n])
        raise DataError(f"the sample {duplicate!r} occurs twice. Every sample may occur only once.")
    value_N = scores.value_N.astype(np.float64)
    if np.isnan(value_N).any():
        raise DataError(f"the value of the sample {scores.ids[int(np.isnan(value_N).argmax())]!r} is NaN")
    return value_N
