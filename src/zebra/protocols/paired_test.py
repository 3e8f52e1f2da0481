"""Two models' outcomes on the same samples in; who is better, by how much, and how sure that is, out.

A paired bootstrap over samples (Efron and Tibshirani 1993, ch. 16) and the exact test of McNemar (1947).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from zebra.errors import DataError
from zebra.values import Score

_NUM_RESAMPLES = 10_000


@dataclass(frozen=True, slots=True)
class SampleScores:
    """What one model scored on every sample."""

    ids: tuple[str, ...]
    value_N: NDArray[np.generic]
    """One outcome per sample: right or wrong as bool, or any number whose mean is the score."""


@dataclass(frozen=True, slots=True)
class PairedComparison:
    """How far the first model is ahead of the second."""

    difference: Score
    """The difference of the means; its interval is the middle 95 % of the resamples."""
    p_value: float
    """Two-sided, from the resamples: how easily the difference could have had the other sign, at least 2e-4."""
    num_wins: int
    """Samples on which the first did better."""
    num_losses: int
    mcnemar_p_value: float | None
    """The exact two-sided test on won against lost; None where outcomes are not right or wrong."""


def compare_paired(first: SampleScores, second: SampleScores, *, seed: int = 0) -> PairedComparison:
    """Compare two models sample by sample; the order of the samples may differ.

    Raises:
        DataError: The samples are not the same, one is named twice, there are none, or an outcome is NaN.
    """
    value_N, other_N = _check_scores(first), _check_scores(second)
    if set(first.ids) != set(second.ids):
        only = sorted(set(first.ids) ^ set(second.ids))
        raise DataError(
            f"two models are compared on the same samples, but {len(only)} were seen by one alone, such as "
            f"{only[0]!r}; evaluate both on one revision of the set"
        )
    place = {id: n for n, id in enumerate(second.ids)}
    ahead_N = value_N - other_N[[place[id] for id in first.ids]]
    # A resample is a count of every distinct difference: three numbers for outcomes of right and wrong, however
    # many samples there are.
    ahead_U, count_U = np.unique(ahead_N, return_counts=True)
    n, rng = len(ahead_N), np.random.default_rng(seed)
    rows = max(1, 2**20 // len(ahead_U))
    drawn = np.concatenate(
        [
            rng.multinomial(n, count_U / n, size=min(rows, _NUM_RESAMPLES - start)) @ ahead_U / n
            for start in range(0, _NUM_RESAMPLES, rows)
        ]
    )
    value = float(ahead_N.mean())
    low, high = np.quantile(drawn, (0.025, 0.975))
    tail = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    won, lost = int((ahead_N > 0).sum()), int((ahead_N < 0).sum())
    binary = first.value_N.dtype == np.bool_ and second.value_N.dtype == np.bool_
    return PairedComparison(
        difference=Score(value, min(float(low), value), max(float(high), value), n),
        p_value=min(1.0, 2 * (tail + 1) / (_NUM_RESAMPLES + 1)),
        num_wins=won,
        num_losses=lost,
        mcnemar_p_value=_mcnemar_p_value(won, lost) if binary else None,
    )


def _mcnemar_p_value(num_wins: int, num_losses: int) -> float:
    return 1.0 if num_wins == num_losses else float(binomtest(num_wins, num_wins + num_losses).pvalue)


def _check_scores(scores: SampleScores) -> NDArray[np.float64]:
    if len(scores.ids) != len(scores.value_N):
        raise DataError(f"{len(scores.ids)} ids name {len(scores.value_N)} outcomes; one belongs to each")
    if not scores.ids:
        raise DataError("a comparison over 0 samples is undefined; the data set is empty")
    if len(set(scores.ids)) != len(scores.ids):
        twice = next(id for n, id in enumerate(scores.ids) if id in scores.ids[:n])
        raise DataError(f"the sample {twice!r} occurs twice; every sample is counted once")
    value_N = scores.value_N.astype(np.float64)
    if np.isnan(value_N).any():
        raise DataError(f"the outcome of {scores.ids[int(np.isnan(value_N).argmax())]!r} is NaN")
    return value_N
