"""Few-shot linear probes and their comparison with zero-shot (CLIP §3.1.5).

`fit_few_shot_probes` is Fig. 6, `subtract_probe_scores` Fig. 5 and `correlate_with_probe` Fig. 8; Fig. 7 is
`zebra.protocols.data_efficiency`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import pearsonr
from scipy.stats import t as student

from zebra.errors import ConfigError, DataError
from zebra.protocols.line_fit import fit_line
from zebra.protocols.linear_probe import LogisticSolver, check_embeddings, check_two_classes, select
from zebra.protocols.metrics import Z95, subtract_scores, wilson_interval
from zebra.protocols.zero_shot import ClassificationResult
from zebra.values import Embeddings, Score

DEFAULT_SHOTS = (1, 2, 4, 8, 16)
MIN_POINTS = 3
"""Fewest repeats or datasets; with two, the scatter cannot be estimated."""


@dataclass(frozen=True, slots=True)
class FewShotResult:
    """Test results of probes with `shots` examples per class, one for each draw of the examples."""

    shots: int
    results: tuple[ClassificationResult, ...]
    num_unconverged: int
    """Number of fits that stopped at the iteration limit."""

    def mean_accuracy(self) -> Score:
        """Return top-1 accuracy, averaged over the draws.

        The interval accounts for both the draws of examples and the test images (two crossed random effects).
        """
        correct_RN = np.stack([result.correct_N for result in self.results]).astype(np.float64)
        num_repeats, n = correct_RN.shape
        draw_R, image_N, value = correct_RN.mean(axis=1), correct_RN.mean(axis=0), float(correct_RN.mean())
        draws, images = float(draw_R.var(ddof=1)) / num_repeats, float(image_N.var()) / max(1, n - 1)
        # Chance that belongs to one draw and one image is in both variances, and counts once.
        residual_RN = correct_RN - draw_R[:, None] - image_N + value
        draws -= float((residual_RN**2).mean()) / max(1, (num_repeats - 1) * (n - 1))
        draws = max(0.0, draws)
        if draws + images == 0:  # all answers are equal
            return Score(value, *wilson_interval(value, n), n)
        # Student's t for the few draws, the normal distribution for the images.
        quantile_draws = float(student.ppf(0.975, num_repeats - 1))
        quantile = math.sqrt((quantile_draws**2 * draws + Z95**2 * images) / (draws + images))
        return Score(value, *wilson_interval(value, value * (1 - value) / (draws + images), quantile), n)


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


def correlate_with_probe(zero_shot_scores: Mapping[str, Score], probe_scores: Mapping[str, Score]) -> ProbeCorrelation:
    """Fit a line of zero-shot accuracy against probe accuracy over datasets (Fig. 8).

    The interval of the slope is Student's t, that of the correlation Fisher's; with three datasets, the latter is
    [-1, 1].

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
    line, test = fit_line(x_N, y_N), pearsonr(x_N, y_N)
    half_width = line.slope_half_width
    interval = test.confidence_interval(0.95) if n > MIN_POINTS else None
    low, high = (-1.0, 1.0) if interval is None else (float(interval.low), float(interval.high))
    return ProbeCorrelation(
        Score(float(test.statistic), low, high, n),
        Score(line.slope, line.slope - half_width, line.slope + half_width, n),
        float(test.pvalue),
    )


def _check_same_datasets(zero_shot_scores: Mapping[str, Score], probe_scores: Mapping[str, Score]) -> None:
    if unpaired := sorted(set(zero_shot_scores) ^ set(probe_scores)):
        missing = "zero-shot" if unpaired[0] in probe_scores else "probe"
        raise DataError(
            f"{len(unpaired)} datasets have only one of the two scores, such as {unpaired[0]!r}, which has no "
            f"{missing} score. Evaluate both, or leave it out."
        )
