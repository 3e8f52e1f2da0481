"""Labelled vectors in, the probe's accuracy by examples per class out, and zero-shot set against it (CLIP §3.1.4).

Fig. 6 is `few_shot`, Fig. 7 `data_efficiency`, Fig. 5 `zero_shot_less_probe` and Fig. 8 `correlation`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
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
"""Draws of one size, or data sets of a line: two leave hardly anything to tell the scatter from."""
_NUM_RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class MeanOverRepeats:
    """The mean of a metric over the draws of one size."""

    score: Score
    interval_source: Literal["draws", "samples"]
    """Whose interval it is, the wider of two: Student's t over draws, or the mean of their own over test samples."""


@dataclass(frozen=True, slots=True)
class FewShotResult:
    """What probes with `shots` examples per class make of the test set, one for each draw."""

    shots: int
    results: tuple[ClassificationResult, ...]
    num_unconverged: int
    """How many of the fits ended at the limit of iterations."""

    def mean(self, metric: str = "top1") -> MeanOverRepeats:
        """Average a metric of `ZeroShot.scores` over the draws."""
        scores = [outcome.scores()[metric] for outcome in self.results]
        values, repeats = [score.value for score in scores], len(scores)
        value = math.fsum(values) / repeats
        reach = float(student.ppf(0.975, repeats - 1) * np.std(values, ddof=1)) / math.sqrt(repeats)
        low = math.fsum(score.low for score in scores) / repeats
        high = math.fsum(score.high for score in scores) / repeats
        if 2 * reach > high - low:
            return MeanOverRepeats(
                Score(value, max(0.0, value - reach), min(1.0, value + reach), scores[0].n), "draws"
            )
        return MeanOverRepeats(Score(value, low, high, scores[0].n), "samples")


@dataclass(frozen=True, slots=True)
class DataEfficiency:
    """How many labels per class a probe needs to equal zero-shot."""

    labels_per_class: float
    bound: Literal["exactly", "below", "above"]
    """'below' and 'above': the curve does not get there, and `labels` is where it begins or ends."""


@dataclass(frozen=True, slots=True)
class ProbeCorrelation:
    """How zero-shot accuracy goes with the probe's, over data sets; n counts data sets."""

    r: Score
    slope: Score
    p_value: float
    """Of a correlation of 0, two-sided."""


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
    """Fit probes to a few examples per class, drawn `num_repeats` times, and rank the test set with each.

    One draw orders the examples of every class; `shots` takes the first so many, so that its smaller sets lie in its
    larger ones. The paper does not say how it drew, how often, or with which penalty.

    Args:
        train: Labelled vectors, at least max(shots) of every class.
        test: The same, from other pictures.
        num_classes: How many there are; labels are in [0, classes).
        l2_penalty: λ, one for all sizes: `linear_probe(...).probe.penalty`, which the validation set chose and the test
            set has no part in. λ is the prior on the weights, and a prior does not depend on the number of examples.
        shots: Examples per class.
        num_repeats: Draws, at least 3.
        seed: Of the draws.

    Raises:
        ConfigError: Fewer than 3 repeats, or no or less than one shot.
        DataError: A class has fewer examples than shots, or a set is not fit for a probe (see `linear_probe`).
        ShapeError: Vectors of different widths.
    """
    if num_repeats < MIN_POINTS:
        raise ConfigError(f"{num_repeats} repeats give no interval over draws; ask for at least {MIN_POINTS}")
    if not shots or min(shots) < 1:
        raise ConfigError(
            f"shots are {list(shots)}; give at least one number of examples per class, 1 or more"
        )
    check_embeddings(train, "training", num_classes)
    check_embeddings(test, "test", num_classes, dim=train.vectors.shape[1])
    check_two_classes(train)
    label_N = train.labels
    assert label_N is not None
    count_C = np.bincount(label_N, minlength=num_classes)
    if short := np.flatnonzero(count_C < max(shots)).tolist():
        raise DataError(
            f"class {short[0]} has {count_C[short[0]]} training examples, one of {len(short)} classes with fewer than "
            f"{max(shots)} shots; ask for fewer shots, or leave the data set out as the paper does"
        )
    fitted: dict[int, list[tuple[ClassificationResult, bool]]] = {count: [] for count in shots}
    for repeat in range(num_repeats):
        rng = np.random.default_rng([seed, repeat])
        order_C = [rng.permutation(np.flatnonzero(label_N == label)) for label in range(num_classes)]
        for count, done in fitted.items():
            drawn = select(train, np.sort(np.concatenate([rows[:count] for rows in order_C])))
            assert drawn.labels is not None
            probe = LogisticSolver(drawn.vectors, drawn.labels, num_classes).fit(l2_penalty)
            done.append((probe.classify(test), probe.is_unconverged))
    return tuple(
        FewShotResult(count, tuple(outcome for outcome, _ in done), sum(stopped for _, stopped in done))
        for count, done in fitted.items()
    )


def estimate_data_efficiency(
    shots: Sequence[int],
    accuracies: Sequence[float],
    full_probe: tuple[float, float],
    zero_shot_accuracy: float,
) -> DataEfficiency:
    """Read off the labels per class at which the probe equals zero-shot (Fig. 7).

    Accuracy is taken to be linear in the logarithm of labels between the points. Where the curve goes up and down,
    the first crossing counts.

    Args:
        shots: Labels per class of the few-shot probes, rising.
        accuracies: Their accuracies.
        full_probe: Mean labels per class of the whole training set, and the accuracy of the probe fitted to it.
        zero_shot_accuracy: The accuracy to equal.

    Raises:
        DataError: Shots and accuracies differ in number, labels do not rise, or an accuracy is not in [0, 1].

    >>> estimate_data_efficiency([1, 4], [0.3, 0.5], (100, 0.9), 0.25)
    DataEfficiency(labels_per_class=1.0, bound='below')
    """
    if len(shots) != len(accuracies):
        raise DataError(f"{len(shots)} numbers of shots with {len(accuracies)} accuracies; pass one for each")
    labels, reached = [*map(float, shots), float(full_probe[0])], [*accuracies, full_probe[1]]
    if labels[0] <= 0 or any(later <= earlier for earlier, later in pairwise(labels)):
        raise DataError(
            f"labels per class are {labels}; they must rise, and the last, of the full set, be the largest"
        )
    if bad := [accuracy for accuracy in (*reached, zero_shot_accuracy) if not 0 <= accuracy <= 1]:
        raise DataError(f"an accuracy is {bad[0]}; accuracies are in [0, 1]")
    if reached[0] > zero_shot_accuracy:
        return DataEfficiency(labels[0], "below")
    for place, accuracy in enumerate(reached):
        if accuracy == zero_shot_accuracy:
            return DataEfficiency(labels[place], "exactly")
        if accuracy > zero_shot_accuracy:
            share = (zero_shot_accuracy - reached[place - 1]) / (accuracy - reached[place - 1])
            octaves = share * math.log2(labels[place] / labels[place - 1])
            return DataEfficiency(labels[place - 1] * 2**octaves, "exactly")
    return DataEfficiency(labels[-1], "above")


def subtract_probe_scores(
    zero_shot_scores: Mapping[str, Score], probe_scores: Mapping[str, Score]
) -> dict[str, Score]:
    """Return zero-shot's lead over a fully supervised probe on every data set, the largest first (Fig. 5).

    The probe may be one on other features, as the paper's on a ResNet-50's. The intervals take the two for
    independent; on the same test pictures they are too wide, on the safe side.

    Raises:
        DataError: A data set has one score and not the other.
    """
    _check_same_datasets(zero_shot_scores, probe_scores)
    leads = {name: subtract_scores(score, probe_scores[name]) for name, score in zero_shot_scores.items()}
    return dict(sorted(leads.items(), key=lambda item: -item[1].value))


def correlate_with_probe(
    zero_shot_scores: Mapping[str, Score], probe_scores: Mapping[str, Score], *, seed: int = 0
) -> ProbeCorrelation:
    """Fit zero-shot accuracy to the probe's over data sets (Fig. 8), with 95 % intervals from 2000 bootstraps of them.

    A resample in which either accuracy does not vary has no correlation and is left out.

    Raises:
        DataError: Fewer than three data sets, one accuracy for all of them, or a data set with one score and not the
            other.
    """
    _check_same_datasets(zero_shot_scores, probe_scores)
    n = len(probe_scores)
    if n < MIN_POINTS:
        raise DataError(f"{n} data sets have no correlation worth the name; pass at least {MIN_POINTS}")
    x_N = np.array([score.value for score in probe_scores.values()])
    y_N = np.array([zero_shot_scores[name].value for name in probe_scores])
    if np.ptp(x_N) == 0 or np.ptp(y_N) == 0:
        raise DataError(f"all {n} data sets have one accuracy; a correlation needs a spread")
    r, slope = _fit_lines(x_N[None], y_N[None])
    pick_BN = np.random.default_rng(seed).integers(n, size=(_NUM_RESAMPLES, n))
    varied_B = (np.ptp(x_N[pick_BN], axis=1) > 0) & (np.ptp(y_N[pick_BN], axis=1) > 0)
    r_B, slope_B = _fit_lines(x_N[pick_BN[varied_B]], y_N[pick_BN[varied_B]])
    return ProbeCorrelation(
        _bootstrap_score(float(r[0]), r_B, n),
        _bootstrap_score(float(slope[0]), slope_B, n),
        float(pearsonr(x_N, y_N).pvalue),
    )


def _fit_lines(
    x_BN: NDArray[np.float64], y_BN: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the correlations [B] and the slopes [B] of least squares."""
    x_BN, y_BN = x_BN - x_BN.mean(axis=1, keepdims=True), y_BN - y_BN.mean(axis=1, keepdims=True)
    together_B = (x_BN * y_BN).sum(axis=1)
    x_B, y_B = (x_BN**2).sum(axis=1), (y_BN**2).sum(axis=1)
    return together_B / np.sqrt(x_B * y_B), together_B / x_B


def _bootstrap_score(value: float, resample_B: NDArray[np.float64], n: int) -> Score:
    low, high = np.quantile(resample_B, (0.025, 0.975))
    return Score(value, min(float(low), value), max(float(high), value), n)


def _check_same_datasets(zero_shot_scores: Mapping[str, Score], probe_scores: Mapping[str, Score]) -> None:
    if alone := sorted(set(zero_shot_scores) ^ set(probe_scores)):
        lacking = "zero-shot" if alone[0] in probe_scores else "probe"
        raise DataError(
            f"the data set {alone[0]!r} has no {lacking} score, one of {len(alone)} with one score of two; "
            "measure both, or leave it out"
        )
