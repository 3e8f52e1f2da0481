"""Few-shot linear probes and their comparison with zero-shot (CLIP §3.1.5).

`fit_few_shot_probes` is Fig. 6, `subtract_probe_scores` Fig. 5 and `correlate_with_probe` Fig. 8; Fig. 7 is
`zebra.protocols.data_efficiency`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import pearsonr
from scipy.stats import t as student

from zebra.errors import ConfigError, DataError
from zebra.protocols.linear_probe import LogisticSolver, check_embeddings, check_two_classes, select
from zebra.protocols.metrics import subtract_scores
from zebra.protocols.zero_shot import ClassificationResult
from zebra.values import Embeddings, Score

DEFAULT_SHOTS = (1, 2, 4, 8, 16)
MIN_POINTS = 3
"""Fewest repeats or datasets; with two, the scatter cannot be estimated."""
_NUM_RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class MeanOverRepeats:
    """The mean of a metric over repeated draws of the examples."""

    score: Score
    interval_source: Literal["draws", "samples"]
    """Source of the interval, the wider of two: Student's t over draws, or the mean interval over test samples."""


@dataclass(frozen=True, slots=True)
class FewShotResult:
    """Test results of probes with `shots` examples per class, one for each draw of the examples."""

    shots: int
    results: tuple[ClassificationResult, ...]
    num_unconverged: int
    """Number of fits that stopped at the iteration limit."""

    def mean(self, metric: str = "top1") -> MeanOverRepeats:
        """Average a metric of `ClassificationResult.scores` over the draws."""
        scores = [result.scores()[metric] for result in self.results]
        values, num_repeats = [score.value for score in scores], len(scores)
        value = math.fsum(values) / num_repeats
        half_width = float(student.ppf(0.975, num_repeats - 1) * np.std(values, ddof=1)) / math.sqrt(num_repeats)
        low = math.fsum(score.low for score in scores) / num_repeats
        high = math.fsum(score.high for score in scores) / num_repeats
        if 2 * half_width > high - low:
            return MeanOverRepeats(
                Score(value, max(0.0, value - half_width), min(1.0, value + half_width), scores[0].n), "draws"
            )
        return MeanOverRepeats(Score(value, low, high, scores[0].n), "samples")


@dataclass(frozen=True, slots=True)
class ProbeCorrelation:
    """Correlation of zero-shot and probe accuracy over datasets; n is the number of datasets."""

    r: Score
    slope: Score
    p_value: float
    """Two-sided p-value of the hypothesis that the correlation is 0."""


def fit_few_shot_probes(
    train: Embeddings,
    test: Embeddings,
    num_classes: int,
    l2_penalty: float,
    *,
    shots: Sequence[int] = DEFAULT_SHOTS,
    num_repeats: int = 3,
    seed: int = 0,
) -> tuple[FewShotResult, ...]:
    """Fit probes to a few random examples per class, `num_repeats` times, and classify the test set with each.

    Each repeat shuffles the examples of every class and takes the first of them, so the smaller training sets are
    subsets of the larger ones. The paper does not specify the drawing, the repeats or the penalty.

    Args:
        train: Labeled vectors, at least max(shots) of every class.
        test: Labeled vectors of other images.
        num_classes: Number of classes; labels are in [0, num_classes).
        l2_penalty: λ for all numbers of shots, usually `fit_linear_probe(...).probe.l2_penalty`, chosen on the
            validation set. λ is the prior on the weights, which does not depend on the number of examples.
        shots: Numbers of examples per class.
        num_repeats: Number of draws, at least 3.
        seed: Seed of the draws.

    Raises:
        ConfigError: Fewer than 3 repeats, no shots, or a number of shots below 1.
        DataError: A class has fewer examples than shots, or the vectors are unusable (see `fit_linear_probe`).
        ShapeError: Training and test vectors differ in dimension.
    """
    if num_repeats < MIN_POINTS:
        raise ConfigError(f"num_repeats must be at least {MIN_POINTS} to estimate an interval; got {num_repeats}")
    if not shots or min(shots) < 1:
        raise ConfigError(
            f"shots must be one or more numbers of examples per class, each at least 1; got {list(shots)}"
        )
    check_embeddings(train, "training", num_classes)
    check_embeddings(test, "test", num_classes, dim=train.vectors.shape[1])
    check_two_classes(train)
    label_N = train.labels
    assert label_N is not None
    count_C = np.bincount(label_N, minlength=num_classes)
    if short := np.flatnonzero(count_C < max(shots)).tolist():
        raise DataError(
            f"{len(short)} classes have fewer than {max(shots)} training examples, such as class {short[0]} with "
            f"{count_C[short[0]]}. Use fewer shots, or leave the dataset out as the paper does."
        )
    results: dict[int, list[tuple[ClassificationResult, bool]]] = {count: [] for count in shots}
    for repeat in range(num_repeats):
        rng = np.random.default_rng([seed, repeat])
        order_C = [rng.permutation(np.flatnonzero(label_N == label)) for label in range(num_classes)]
        for count, fits in results.items():
            subset = select(train, np.sort(np.concatenate([rows[:count] for rows in order_C])))
            assert subset.labels is not None
            probe = LogisticSolver(subset.vectors, subset.labels, num_classes).fit(l2_penalty)
            fits.append((probe.classify(test), probe.is_unconverged))
    return tuple(
        FewShotResult(count, tuple(result for result, _ in fits), sum(unconverged for _, unconverged in fits))
        for count, fits in results.items()
    )


def subtract_probe_scores(zero_shot_scores: Mapping[str, Score], probe_scores: Mapping[str, Score]) -> dict[str, Score]:
    """Return zero-shot minus probe accuracy on every dataset, largest first (Fig. 5).

    The probe may use the features of another model; the paper uses a ResNet-50. The intervals assume independent
    scores. On the same test images this makes them too wide, which is conservative.

    Raises:
        DataError: A dataset has only one of the two scores.
    """
    _check_same_datasets(zero_shot_scores, probe_scores)
    differences = {name: subtract_scores(score, probe_scores[name]) for name, score in zero_shot_scores.items()}
    return dict(sorted(differences.items(), key=lambda item: -item[1].value))


def correlate_with_probe(
    zero_shot_scores: Mapping[str, Score], probe_scores: Mapping[str, Score], *, seed: int = 0
) -> ProbeCorrelation:
    """Fit a line of zero-shot accuracy against probe accuracy over datasets (Fig. 8).

    The 95% intervals are from 2000 bootstrap resamples of the datasets. Resamples in which an accuracy does not vary
    are left out, because they have no correlation.

    Raises:
        DataError: Fewer than three datasets, equal accuracies on all, or a dataset with only one of the two scores.
    """
    _check_same_datasets(zero_shot_scores, probe_scores)
    n = len(probe_scores)
    if n < MIN_POINTS:
        raise DataError(f"a correlation needs at least {MIN_POINTS} datasets; got {n}")
    x_N = np.array([score.value for score in probe_scores.values()])
    y_N = np.array([zero_shot_scores[name].value for name in probe_scores])
    if np.ptp(x_N) == 0 or np.ptp(y_N) == 0:
        raise DataError(f"all {n} datasets have the same accuracy. A correlation needs different accuracies.")
    r, slope = _fit_lines(x_N[None], y_N[None])
    pick_BN = np.random.default_rng(seed).integers(n, size=(_NUM_RESAMPLES, n))
    varies_B = (np.ptp(x_N[pick_BN], axis=1) > 0) & (np.ptp(y_N[pick_BN], axis=1) > 0)
    r_B, slope_B = _fit_lines(x_N[pick_BN[varies_B]], y_N[pick_BN[varies_B]])
    return ProbeCorrelation(
        _bootstrap_score(float(r[0]), r_B, n),
        _bootstrap_score(float(slope[0]), slope_B, n),
        float(pearsonr(x_N, y_N).pvalue),
    )


def _fit_lines(x_BN: NDArray[np.float64], y_BN: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the correlations [B] and the least-squares slopes [B]."""
    x_BN, y_BN = x_BN - x_BN.mean(axis=1, keepdims=True), y_BN - y_BN.mean(axis=1, keepdims=True)
    product_B = (x_BN * y_BN).sum(axis=1)
    x_B, y_B = (x_BN**2).sum(axis=1), (y_BN**2).sum(axis=1)
    return product_B / np.sqrt(x_B * y_B), product_B / x_B


def _bootstrap_score(value: float, resample_B: NDArray[np.float64], n: int) -> Score:
    low, high = np.quantile(resample_B, (0.025, 0.975))
    return Score(value, min(float(low), value), max(float(high), value), n)


def _check_same_datasets(zero_shot_scores: Mapping[str, Score], probe_scores: Mapping[str, Score]) -> None:
    if unpaired := sorted(set(zero_shot_scores) ^ set(probe_scores)):
        missing = "zero-shot" if unpaired[0] in probe_scores else "probe"
        raise DataError(
            f"{len(unpaired)} datasets have only one of the two scores, such as {unpaired[0]!r}, which has no "
            f"{missing} score. Evaluate both, or leave it out."
        )
