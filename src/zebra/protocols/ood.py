"""Out-of-distribution detection: unknown classes against known ones."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp, softmax
from scipy.stats import t as student

from zebra.errors import DataError
from zebra.protocols.metrics import Z95, proportion, roc_auc, wilson_interval
from zebra.protocols.zero_shot import ROWS_PER_BLOCK, cosines_to_classes
from zebra.values import Score

RECALL = 0.95
"""Share of the known images that the threshold of FPR95 accepts."""
MCM = "mcm"
"""The main detection score, whose metrics have no prefix."""


@dataclass(frozen=True, slots=True)
class DetectionResult:
    """Detection scores of known and unknown images; larger means known."""

    known: Mapping[str, NDArray[np.float64]]
    """Name of the detection score → its values for the N known images."""
    unknown: Mapping[str, NDArray[np.float64]]
    """The same for the M unknown images."""

    def scores(self) -> dict[str, Score]:
        """Return auroc, fpr95, aupr_in and aupr_out of each detection score, those of MCM first and without prefix.

        Known images are the positives of aupr_in, unknown ones those of aupr_out, which ImageNet-O uses.
        """
        scores = {}
        for name, known_N in self.known.items():
            unknown_M, prefix = self.unknown[name], "" if name == MCM else f"{name}_"
            is_known = np.repeat([True, False], [len(known_N), len(unknown_M)])
            scores[f"{prefix}auroc"] = roc_auc(np.concatenate([known_N, unknown_M]), is_known)
            scores[f"{prefix}fpr95"] = false_positive_rate(known_N, unknown_M)
            scores[f"{prefix}aupr_in"] = average_precision(known_N, unknown_M)
            scores[f"{prefix}aupr_out"] = average_precision(-unknown_M, -known_N)
        return scores


def compute_detection_scores(
    image_NE: NDArray[np.float32], class_CE: NDArray[np.float32], scale: float
) -> dict[str, NDArray[np.float64]]:
    """Return the detection scores [N] of images by the class vectors; larger means known.

    mcm: the largest softmax of the cosines at temperature 1 (maximum concept matching, Ming et al. 2022, arXiv
    2211.13445). max_cosine: the cosine with the nearest class, as "none of these" of `zebra classify` uses it.
    energy: the logarithm of the sum of exponentials of the cosines. max_probability: the largest softmax at the model's
    temperature.

    Args:
        image_NE: Unit vectors of the images.
        class_CE: A unit vector for each known class.
        scale: Factor of the cosines in the model's logits.

    Raises:
        DataError: There is one class only, of which each image has the softmax 1.
    """
    if len(class_CE) < 2:
        raise DataError("out-of-distribution detection needs at least two known classes; got 1")
    parts: dict[str, list[NDArray[np.float64]]] = {MCM: [], "max_cosine": [], "energy": [], "max_probability": []}
    for start in range(0, len(image_NE), ROWS_PER_BLOCK):
        cosine_BC = cosines_to_classes(image_NE[start : start + ROWS_PER_BLOCK], class_CE).astype(np.float64)
        parts[MCM].append(softmax(cosine_BC, axis=1).max(axis=1))
        parts["max_cosine"].append(cosine_BC.max(axis=1))
        parts["energy"].append(logsumexp(cosine_BC, axis=1))
        parts["max_probability"].append(softmax(scale * cosine_BC, axis=1).max(axis=1))
    return {name: np.concatenate(blocks) for name, blocks in parts.items()}


def false_positive_rate(positive_N: NDArray[np.floating], negative_M: NDArray[np.floating]) -> Score:
    """Return the share of negatives that the threshold accepts whose recall of positives is nearest to 95 %.

    Thresholds are scores of any image; of those that are equally near, the lowest counts, as in the code of MCM.
    The interval combines, as method 10 of Newcombe (1998), Wilson's for the negatives with the change between the
    thresholds at the ends of the 95 % interval of the true quantile: the threshold is estimated too.

    Raises:
        DataError: There are no positives or no negatives, or a score is NaN.
    """
    _check_detection_scores(positive_N, negative_M)
    n, m = len(positive_N), len(negative_M)
    ascending_M = np.sort(negative_M)

    def count_accepted(threshold: float) -> int:
        return m - int(np.searchsorted(ascending_M, threshold, side="left"))

    ascending_N = np.sort(positive_N)
    threshold_U = np.unique(np.concatenate([positive_N, negative_M]))
    threshold_U = threshold_U[threshold_U >= ascending_N[0]]
    recall_U = (n - np.searchsorted(ascending_N, threshold_U, side="left")) / n
    threshold = float(threshold_U[np.abs(recall_U - RECALL).argmin()])
    value = count_accepted(threshold) / m
    own = proportion(count_accepted(threshold), m)
    # The number of positives below the true quantile is binomial.
    half_width = Z95 * math.sqrt(n * RECALL * (1 - RECALL))
    first, last = n * (1 - RECALL) - 0.5 - half_width, n * (1 - RECALL) - 0.5 + half_width
    fewest = count_accepted(float(np.interp(last, np.arange(n), ascending_N))) / m
    # It may be below all positives of a small sample.
    most = count_accepted(float(np.interp(first, np.arange(n), ascending_N))) / m if first >= 0 else 1.0
    low = value - math.hypot(value - own.low, max(value - fewest, 0.0))
    high = value + math.hypot(own.high - value, max(most - value, 0.0))
    return Score(value, max(low, 0.0), min(high, 1.0), n + m)


def average_precision(positive_N: NDArray[np.floating], negative_M: NDArray[np.floating]) -> Score:
    """Return the area under the steps of the precision-recall curve; equal scores count together, as in scikit-learn.

    The interval is logit(score) ± t standard errors by the delta method. The numbers of positives and negatives are
    fixed: precision depends on their ratio. It covers the mean score over datasets of these sizes.

    Raises:
        DataError: There are no positives or no negatives, or a score is NaN.
    """
    _check_detection_scores(positive_N, negative_M)
    n, m = len(positive_N), len(negative_M)
    score_K = np.concatenate([positive_N, negative_M])
    # Threshold by threshold, from the highest score: share of the positives and of the negatives that reach it.
    _, threshold_K = np.unique(-score_K, return_inverse=True)
    num_thresholds = int(threshold_K.max()) + 1
    positive_U = np.bincount(threshold_K[:n], minlength=num_thresholds) / n
    negative_U = np.bincount(threshold_K[n:], minlength=num_thresholds) / m
    recall_U, false_U, ratio = positive_U.cumsum(), negative_U.cumsum(), m / n
    selected_U = recall_U + ratio * false_U
    precision_U = recall_U / selected_U
    value = float((positive_U * precision_U).sum())
    # A sample changes the precision at its own threshold and all lower ones.
    by_recall_U = positive_U * ratio * false_U / selected_U**2
    by_false_U = -positive_U * ratio * recall_U / selected_U**2
    from_recall_U, from_false_U = (by_U[::-1].cumsum()[::-1] for by_U in (by_recall_U, by_false_U))
    influence_N = precision_U[threshold_K[:n]] + from_recall_U[threshold_K[:n]]
    influence_M = from_false_U[threshold_K[n:]]
    low, high = _logit_interval(value, influence_N, influence_M)
    return Score(value, low, high, n + m)


def _logit_interval(
    value: float, influence_N: NDArray[np.float64], influence_M: NDArray[np.float64]
) -> tuple[float, float]:
    """Return the interval of a statistic of two samples by the influence of each sample on it."""
    n, m = len(influence_N), len(influence_M)
    variances = [float(x.var(ddof=1)) / len(x) if len(x) > 1 else 0.0 for x in (influence_N, influence_M)]
    variance = sum(variances)
    if value == 1 or variance == 0 or min(n, m) == 1:
        # Perfect or constant: as if each of the fewer samples were one trial.
        trials = proportion(round(value * min(n, m)), min(n, m))
        return min(trials.low, value), max(trials.high, value)
    degrees = variance**2 / (variances[0] ** 2 / (n - 1) + variances[1] ** 2 / (m - 1))
    return wilson_interval(value, value * (1 - value) / variance, float(student.ppf(0.975, degrees)))


def _check_detection_scores(positive_N: NDArray[np.floating], negative_M: NDArray[np.floating]) -> None:
    if not len(positive_N) or not len(negative_M):
        raise DataError(
            f"detection needs known and unknown images; got {len(positive_N)} and {len(negative_M)}. Give both sets"
        )
    if np.isnan(positive_N).any() or np.isnan(negative_M).any():
        raise DataError("a score is NaN. The model has diverged.")
