"""Labels per class that a probe needs to match zero-shot accuracy (CLIP Fig. 7)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from zebra.errors import DataError
from zebra.protocols.metrics import Z95
from zebra.values import Score

_NUM_DRAWS = 2000


@dataclass(frozen=True, slots=True)
class DataEfficiency:
    """Labels per class that a probe needs to match zero-shot accuracy."""

    labels_per_class: float
    bound: Literal["exactly", "below", "above"]
    """'below' or 'above': the match is outside the curve, and `labels_per_class` is the start or end of the curve."""


@dataclass(frozen=True, slots=True)
class ProbeCurve:
    """Accuracy of probes with more and more labels, and of zero-shot, on the same test images."""

    probes: Mapping[float, Score]
    """Labels per class → accuracy, in increasing order; the last one has all labels."""
    zero_shot: Score

    def match(self) -> DataEfficiency:
        """Return the labels per class at which the probe matches zero-shot."""
        (*shots, labels), (*accuracies, accuracy) = self.probes, (score.value for score in self.probes.values())
        return estimate_data_efficiency(shots, accuracies, (labels, accuracy), self.zero_shot.value)


@dataclass(frozen=True, slots=True)
class EfficiencySummary:
    """Labels per class over datasets; a dataset whose match is outside its curve counts with the end of the curve."""

    labels: Mapping[str, Score]
    """Dataset → labels per class; n is the number of test images."""
    matches: Mapping[str, DataEfficiency]
    """The same as values, with the datasets whose match is outside the curve."""
    median: Score
    mean: Score
    """Over datasets; n is their number."""


def summarize_data_efficiency(curves: Mapping[str, ProbeCurve], *, seed: int = 0) -> EfficiencySummary:
    """Estimate the labels per class on each dataset, and their median and mean.

    The 95% intervals are log(labels) ± 1.96 standard deviations over 2000 draws of every accuracy, each from a normal
    distribution that is as wide on each side as its interval. Datasets are fixed, test images and examples random. The
    accuracies of a dataset are drawn independently, though they are on the same images.

    Raises:
        DataError: There are no curves, or one is not increasing in its labels.
    """
    if not curves:
        raise DataError("the data efficiency needs at least one dataset with few-shot probes; got none")
    matches = {name: curve.match() for name, curve in curves.items()}
    rng = np.random.default_rng(seed)
    drawn_ND = np.array([_draw_matches(curve, rng) for curve in curves.values()])
    value_N = np.array([match.labels_per_class for match in matches.values()])
    labels = {
        name: _interval(value, drawn_D, curves[name].zero_shot.n)
        for name, value, drawn_D in zip(curves, value_N.tolist(), drawn_ND, strict=True)
    }
    median = _interval(float(np.median(value_N)), np.median(drawn_ND, axis=0), len(curves))
    return EfficiencySummary(
        labels, matches, median, _interval(float(value_N.mean()), drawn_ND.mean(axis=0), len(curves))
    )


def estimate_data_efficiency(
    shots: Sequence[float], accuracies: Sequence[float], full_probe: tuple[float, float], zero_shot_accuracy: float
) -> DataEfficiency:
    """Estimate the labels per class at which the probe matches zero-shot accuracy.

    Accuracy is interpolated linearly in the logarithm of the labels. If the curve crosses several times, the first
    crossing counts.

    Args:
        shots: Labels per class of the few-shot probes, in increasing order.
        accuracies: Their accuracies.
        full_probe: Mean labels per class of the full training set, and the accuracy of the probe fitted to it.
        zero_shot_accuracy: The accuracy to match.

    Raises:
        DataError: Shots and accuracies differ in number, labels do not increase, or an accuracy is not in [0, 1].

    >>> estimate_data_efficiency([1, 4], [0.3, 0.5], (100, 0.9), 0.25)
    DataEfficiency(labels_per_class=1.0, bound='below')
    """
    if len(shots) != len(accuracies):
        raise DataError(f"{len(shots)} numbers of shots but {len(accuracies)} accuracies. Pass one accuracy for each.")
    labels, curve = [*map(float, shots), float(full_probe[0])], [*accuracies, full_probe[1]]
    if labels[0] <= 0 or any(later <= earlier for earlier, later in pairwise(labels)):
        raise DataError(
            f"labels per class must increase, and those of the full training set must be the largest; got {labels}"
        )
    if bad := [accuracy for accuracy in (*curve, zero_shot_accuracy) if not 0 <= accuracy <= 1]:
        raise DataError(f"accuracies must be in [0, 1]; got {bad[0]}")
    if curve[0] > zero_shot_accuracy:
        return DataEfficiency(labels[0], "below")
    for index, accuracy in enumerate(curve):
        if accuracy == zero_shot_accuracy:
            return DataEfficiency(labels[index], "exactly")
        if accuracy > zero_shot_accuracy:
            fraction = (zero_shot_accuracy - curve[index - 1]) / (accuracy - curve[index - 1])
            octaves = fraction * math.log2(labels[index] / labels[index - 1])
            return DataEfficiency(labels[index - 1] * 2**octaves, "exactly")
    return DataEfficiency(labels[-1], "above")


def _draw_matches(curve: ProbeCurve, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return the labels per class of draws of all accuracies, as `estimate_data_efficiency` finds them."""
    label_K = np.log2(list(curve.probes))
    accuracy_DK = np.stack([_draw_score(score, rng) for score in curve.probes.values()], axis=1)
    zero_shot_D = _draw_score(curve.zero_shot, rng)
    reaches_DK = accuracy_DK >= zero_shot_D[:, None]
    index_D = np.where(reaches_DK.any(axis=1), reaches_DK.argmax(axis=1), len(label_K) - 1)
    before_D, rows_D = np.maximum(index_D - 1, 0), np.arange(len(index_D))
    low_D, high_D = accuracy_DK[rows_D, before_D], accuracy_DK[rows_D, index_D]
    rise_D = np.where(high_D > low_D, high_D - low_D, 1)
    fraction_D = np.where(high_D > low_D, np.clip((zero_shot_D - low_D) / rise_D, 0, 1), 1)
    matches_D: NDArray[np.float64] = 2 ** (label_K[before_D] + fraction_D * (label_K[index_D] - label_K[before_D]))
    return matches_D


def _draw_score(score: Score, rng: np.random.Generator) -> NDArray[np.float64]:
    normal_D = rng.standard_normal(_NUM_DRAWS)
    width_D = np.where(normal_D < 0, score.value - score.low, score.high - score.value)
    return np.clip(score.value + normal_D * width_D / Z95, 0, 1)


def _interval(value: float, drawn_D: NDArray[np.float64], n: int) -> Score:
    spread = Z95 * float(np.log(drawn_D).std(ddof=1))
    low, high = max(value * np.exp(-spread), float(drawn_D.min())), min(value * np.exp(spread), float(drawn_D.max()))
    return Score(value, min(float(low), value), max(float(high), value), n)
