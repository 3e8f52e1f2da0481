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
from zebra.protocols.linear_probe import LogisticFit, check, check_classes, take
from zebra.protocols.metrics import minus
from zebra.protocols.zero_shot import ZeroShot
from zebra.values import Embeddings, Score

SHOTS = (1, 2, 4, 8, 16)
FEWEST = 3
"""Draws of one size, or data sets of a line: two leave hardly anything to tell the scatter from."""
RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Mean:
    """The mean of a metric over the draws of one size."""

    score: Score
    doubt: Literal["draws", "samples"]
    """Whose interval it is, the wider of two: Student's t over draws, or the mean of their own over test samples."""


@dataclass(frozen=True, slots=True)
class FewShot:
    """What probes with `shots` examples per class make of the test set, one for each draw."""

    shots: int
    outcomes: tuple[ZeroShot, ...]
    stopped: int
    """How many of the fits ended at the limit of iterations."""

    def mean(self, metric: str = "top1") -> Mean:
        """Average a metric of `ZeroShot.scores` over the draws."""
        scores = [outcome.scores()[metric] for outcome in self.outcomes]
        values, repeats = [score.value for score in scores], len(scores)
        value = math.fsum(values) / repeats
        reach = float(student.ppf(0.975, repeats - 1) * np.std(values, ddof=1)) / math.sqrt(repeats)
        low = math.fsum(score.low for score in scores) / repeats
        high = math.fsum(score.high for score in scores) / repeats
        if 2 * reach > high - low:
            return Mean(Score(value, max(0.0, value - reach), min(1.0, value + reach), scores[0].n), "draws")
        return Mean(Score(value, low, high, scores[0].n), "samples")


@dataclass(frozen=True, slots=True)
class Efficiency:
    """How many labels per class a probe needs to equal zero-shot."""

    labels: float
    bound: Literal["exactly", "below", "above"]
    """'below' and 'above': the curve does not get there, and `labels` is where it begins or ends."""


@dataclass(frozen=True, slots=True)
class Correlation:
    """How zero-shot accuracy goes with the probe's, over data sets; n counts data sets."""

    r: Score
    slope: Score
    p: float
    """Of a correlation of 0, two-sided."""


def few_shot(
    train: Embeddings,
    test: Embeddings,
    classes: int,
    penalty: float,
    *,
    shots: Sequence[int] = SHOTS,
    repeats: int = 3,
    seed: int = 0,
) -> tuple[FewShot, ...]:
    """Fit probes to a few examples per class, drawn `repeats` times, and rank the test set with each.

    One draw orders the examples of every class; `shots` takes the first so many, so that its smaller sets lie in its
    larger ones. The paper does not say how it drew, how often, or with which penalty.

    Args:
        train: Labelled vectors, at least max(shots) of every class.
        test: The same, from other pictures.
        classes: How many there are; labels are in [0, classes).
        penalty: λ, one for all sizes: `linear_probe(...).probe.penalty`, which the validation set chose and the test
            set has no part in. λ is the prior on the weights, and a prior does not depend on the number of examples.
        shots: Examples per class.
        repeats: Draws, at least 3.
        seed: Of the draws.

    Raises:
        ConfigError: Fewer than 3 repeats, or no or less than one shot.
        DataError: A class has fewer examples than shots, or a set is not fit for a probe (see `linear_probe`).
        ShapeError: Vectors of different widths.
    """
    if repeats < FEWEST:
        raise ConfigError(f"{repeats} repeats give no interval over draws; ask for at least {FEWEST}")
    if not shots or min(shots) < 1:
        raise ConfigError(
            f"shots are {list(shots)}; give at least one number of examples per class, 1 or more"
        )
    check(train, "training", classes)
    check(test, "test", classes, width=train.vectors.shape[1])
    check_classes(train)
    label_N = train.labels
    assert label_N is not None
    count_C = np.bincount(label_N, minlength=classes)
    if short := np.flatnonzero(count_C < max(shots)).tolist():
        raise DataError(
            f"class {short[0]} has {count_C[short[0]]} training examples, one of {len(short)} classes with fewer than "
            f"{max(shots)} shots; ask for fewer shots, or leave the data set out as the paper does"
        )
    fitted: dict[int, list[tuple[ZeroShot, bool]]] = {count: [] for count in shots}
    for repeat in range(repeats):
        rng = np.random.default_rng([seed, repeat])
        order_C = [rng.permutation(np.flatnonzero(label_N == label)) for label in range(classes)]
        for count, done in fitted.items():
            drawn = take(train, np.sort(np.concatenate([rows[:count] for rows in order_C])))
            assert drawn.labels is not None
            probe = LogisticFit(drawn.vectors, drawn.labels, classes).fit(penalty)
            done.append((probe.rank(test), probe.stopped))
    return tuple(
        FewShot(count, tuple(outcome for outcome, _ in done), sum(stopped for _, stopped in done))
        for count, done in fitted.items()
    )


def data_efficiency(
    shots: Sequence[int], accuracies: Sequence[float], full: tuple[float, float], zero_shot: float
) -> Efficiency:
    """Read off the labels per class at which the probe equals zero-shot (Fig. 7).

    Accuracy is taken to be linear in the logarithm of labels between the points. Where the curve goes up and down,
    the first crossing counts.

    Args:
        shots: Labels per class of the few-shot probes, rising.
        accuracies: Their accuracies.
        full: Mean labels per class of the whole training set, and the accuracy of the probe fitted to it.
        zero_shot: The accuracy to equal.

    Raises:
        DataError: Shots and accuracies differ in number, labels do not rise, or an accuracy is not in [0, 1].

    >>> data_efficiency([1, 4], [0.3, 0.5], (100, 0.9), 0.25)
    Efficiency(labels=1.0, bound='below')
    """
    if len(shots) != len(accuracies):
        raise DataError(f"{len(shots)} numbers of shots with {len(accuracies)} accuracies; pass one for each")
    labels, reached = [*map(float, shots), float(full[0])], [*accuracies, full[1]]
    if labels[0] <= 0 or any(later <= earlier for earlier, later in pairwise(labels)):
        raise DataError(
            f"labels per class are {labels}; they must rise, and the last, of the full set, be the largest"
        )
    if bad := [accuracy for accuracy in (*reached, zero_shot) if not 0 <= accuracy <= 1]:
        raise DataError(f"an accuracy is {bad[0]}; accuracies are in [0, 1]")
    if reached[0] > zero_shot:
        return Efficiency(labels[0], "below")
    for place, accuracy in enumerate(reached):
        if accuracy == zero_shot:
            return Efficiency(labels[place], "exactly")
        if accuracy > zero_shot:
            share = (zero_shot - reached[place - 1]) / (accuracy - reached[place - 1])
            octaves = share * math.log2(labels[place] / labels[place - 1])
            return Efficiency(labels[place - 1] * 2**octaves, "exactly")
    return Efficiency(labels[-1], "above")


def zero_shot_less_probe(zero_shot: Mapping[str, Score], probe: Mapping[str, Score]) -> dict[str, Score]:
    """Return zero-shot's lead over a fully supervised probe on every data set, the largest first (Fig. 5).

    The probe may be one on other features, as the paper's on a ResNet-50's. The intervals take the two for
    independent; on the same test pictures they are too wide, on the safe side.

    Raises:
        DataError: A data set has one score and not the other.
    """
    _check_same_sets(zero_shot, probe)
    leads = {name: minus(score, probe[name]) for name, score in zero_shot.items()}
    return dict(sorted(leads.items(), key=lambda item: -item[1].value))


def correlation(zero_shot: Mapping[str, Score], probe: Mapping[str, Score], *, seed: int = 0) -> Correlation:
    """Fit zero-shot accuracy to the probe's over data sets (Fig. 8), with 95 % intervals from 2000 bootstraps of them.

    A resample in which either accuracy does not vary has no correlation and is left out.

    Raises:
        DataError: Fewer than three data sets, one accuracy for all of them, or a data set with one score and not the
            other.
    """
    _check_same_sets(zero_shot, probe)
    n = len(probe)
    if n < FEWEST:
        raise DataError(f"{n} data sets have no correlation worth the name; pass at least {FEWEST}")
    x_N = np.array([score.value for score in probe.values()])
    y_N = np.array([zero_shot[name].value for name in probe])
    if np.ptp(x_N) == 0 or np.ptp(y_N) == 0:
        raise DataError(f"all {n} data sets have one accuracy; a correlation needs a spread")
    r, slope = _line(x_N[None], y_N[None])
    pick_BN = np.random.default_rng(seed).integers(n, size=(RESAMPLES, n))
    varied_B = (np.ptp(x_N[pick_BN], axis=1) > 0) & (np.ptp(y_N[pick_BN], axis=1) > 0)
    r_B, slope_B = _line(x_N[pick_BN[varied_B]], y_N[pick_BN[varied_B]])
    return Correlation(
        _around(float(r[0]), r_B, n), _around(float(slope[0]), slope_B, n), float(pearsonr(x_N, y_N).pvalue)
    )


def _line(
    x_BN: NDArray[np.float64], y_BN: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the correlations [B] and the slopes [B] of least squares."""
    x_BN, y_BN = x_BN - x_BN.mean(axis=1, keepdims=True), y_BN - y_BN.mean(axis=1, keepdims=True)
    together_B = (x_BN * y_BN).sum(axis=1)
    x_B, y_B = (x_BN**2).sum(axis=1), (y_BN**2).sum(axis=1)
    return together_B / np.sqrt(x_B * y_B), together_B / x_B


def _around(value: float, drawn_B: NDArray[np.float64], n: int) -> Score:
    low, high = np.quantile(drawn_B, (0.025, 0.975))
    return Score(value, min(float(low), value), max(float(high), value), n)


def _check_same_sets(zero_shot: Mapping[str, Score], probe: Mapping[str, Score]) -> None:
    if alone := sorted(set(zero_shot) ^ set(probe)):
        lacking = "zero-shot" if alone[0] in probe else "probe"
        raise DataError(
            f"the data set {alone[0]!r} has no {lacking} score, one of {len(alone)} with one score of two; "
            "measure both, or leave it out"
        )
