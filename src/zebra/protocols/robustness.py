"""Accuracies on a standard set and on its shifts in, effective and relative robustness out (CLIP §3.3).

The definitions are those of Taori et al. 2020, "Measuring Robustness to Natural Distribution Shifts": among models
trained on the standard set, accuracy under a shift follows from standard accuracy by a line, once both are
logit-transformed. What a model has above that line is its *effective* robustness, what it has above a
baseline model is its *relative* robustness. Both are differences of accuracies.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit

from zebra.errors import DataError, ShapeError, suggest_name
from zebra.protocols.metrics import average_scores, subtract_scores
from zebra.protocols.zero_shot import ROWS_PER_BLOCK, ClassificationResult
from zebra.values import Embeddings, Score

AVERAGE_SHIFT = "average"
"""The name of the mean over all shifts, where there are several."""
MIN_REFERENCE_MODELS = 3
"""Reference models: through two, a line goes exactly, and nothing says how far it can be trusted."""
_NUM_RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class LogitLine:
    """What shifted accuracy to expect at a standard accuracy: a line between their logits."""

    slope: float
    intercept: float
    slope_B: NDArray[np.float64]
    """[B]: of the line through each bootstrap resample of the reference models."""
    intercept_B: NDArray[np.float64]

    def predict(self, accuracy: ArrayLike) -> NDArray[np.float64]:
        """Return the expected shifted accuracy, for standard accuracies inside (0, 1)."""
        expected: NDArray[np.float64] = expit(self.slope * logit(accuracy) + self.intercept)
        return expected

    def confidence_band(self, accuracy_N: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the ends of the 95 % bootstrap interval of `at`."""
        x_N = logit(np.atleast_1d(np.asarray(accuracy_N, dtype=np.float64)))
        drawn_BN = self.slope_B[:, None] * x_N + self.intercept_B[:, None]
        low_N, high_N = expit(np.percentile(drawn_BN, [2.5, 97.5], axis=0))
        at_N = self.predict(expit(x_N))
        return np.minimum(low_N, at_N), np.maximum(high_N, at_N)

    def predict_score(self, standard: Score) -> Score:
        """Return `at` with an interval that knows both the doubt about the line and that about `standard`."""
        value = float(self.predict(clip_accuracy(standard.value, standard.n)))
        own = [float(self.predict(clip_accuracy(end, standard.n))) for end in (standard.low, standard.high)]
        below, above = self.confidence_band(clip_accuracy(standard.value, standard.n))
        low = value - math.hypot(value - min(own), value - below[0])
        high = value + math.hypot(max(own) - value, above[0] - value)
        return Score(value, low, high, standard.n)


@dataclass(frozen=True, slots=True)
class ShiftRobustness:
    """One shift (or their average), and how each model fares under it."""

    name: str
    line: LogitLine
    standard_scores: Mapping[str, Score]
    """Accuracy on the standard set, by model, references included."""
    shifted_scores: Mapping[str, Score]
    """Accuracy under the shift, by model, references included."""
    effective_robustness: Mapping[str, Score]
    """Height above the line, in accuracy, of the models that it was not fitted to."""
    relative_robustness: Mapping[str, Score]
    """Accuracy under the shift less that of the baseline, of the models that the line was not fitted to."""


def evaluate_robustness(
    accuracies: Mapping[str, Mapping[str, Score]],
    standard: str,
    references: Sequence[str],
    baseline: str,
    seed: int = 0,
) -> tuple[ShiftRobustness, ...]:
    """Measure every model against the reference models, on each shift and on the average of all (Fig. 13).

    Args:
        accuracies: model → set → accuracy; each model has the standard set and the same shifts. A published
            accuracy becomes a score by `proportion(round(accuracy * n), n)`.
        standard: The set that the others are shifts of.
        references: Models that the lines are fitted to, trained on the standard set.
        baseline: The model that relative robustness is counted from; it may be a reference.
        seed: Of the bootstrap over reference models.

    Raises:
        DataError: Fewer than three references, references of one standard accuracy, an unknown model, no shift,
            or a set that one model has and another lacks.
    """
    for name in (*references, baseline):
        if name not in accuracies:
            raise DataError(f"there are no accuracies of the model {name!r}.{suggest_name(name, accuracies)}")
    if len(set(references)) < MIN_REFERENCE_MODELS:
        raise DataError(
            f"{len(set(references))} reference models; at least {MIN_REFERENCE_MODELS} different ones are needed, since a line "
            "through two goes exactly and says nothing about what to expect of a third"
        )
    sets = list(dict.fromkeys(name for scores in accuracies.values() for name in scores))
    for model, scores in accuracies.items():
        if lacking := [name for name in (standard, *sets) if name not in scores]:
            raise DataError(
                f"the model {model!r} has no accuracy on {lacking[0]!r}; measure every model on every set"
            )
    shifts = [name for name in sets if name != standard]
    if not shifts:
        raise DataError(f"only the standard set {standard!r} was measured; add at least one shift of it")
    standards = {model: scores[standard] for model, scores in accuracies.items()}
    columns = {name: {model: scores[name] for model, scores in accuracies.items()} for name in shifts}
    if len(shifts) > 1:
        columns[AVERAGE_SHIFT] = {
            model: average_scores([scores[name] for name in shifts]) for model, scores in accuracies.items()
        }
    fitted = list(dict.fromkeys(references))
    measured = [model for model in accuracies if model not in fitted]
    outcome = []
    for name, shifted in columns.items():
        line = fit_logit_line(
            [standards[model] for model in fitted], [shifted[model] for model in fitted], seed
        )
        effective = {
            model: subtract_scores(shifted[model], line.predict_score(standards[model])) for model in measured
        }
        relative = {model: subtract_scores(shifted[model], shifted[baseline]) for model in measured}
        outcome.append(ShiftRobustness(name, line, standards, shifted, effective, relative))
    return tuple(outcome)


def fit_logit_line(
    standard_scores: Sequence[Score], shifted_scores: Sequence[Score], seed: int = 0
) -> LogitLine:
    """Fit the logits of shifted accuracies to those of standard ones, by least squares.

    Args:
        standard_scores: M scores of the reference models on the standard set.
        shifted_scores: M scores of the same models under the shift.
        seed: Of the bootstrap over models. A resample of models that all have one standard accuracy has no line
            and is left out.

    Raises:
        DataError: Fewer than three models, or all of one standard accuracy.
    """
    if len(standard_scores) != len(shifted_scores) or len(standard_scores) < MIN_REFERENCE_MODELS:
        raise DataError(
            f"{len(standard_scores)} reference models with {len(shifted_scores)} shifted accuracies; "
            f"pass both for at least {MIN_REFERENCE_MODELS} models"
        )
    x_M = logit([clip_accuracy(score.value, score.n) for score in standard_scores])
    y_M = logit([clip_accuracy(score.value, score.n) for score in shifted_scores])
    if np.ptp(x_M) == 0:
        raise DataError(
            f"all {len(x_M)} reference models have the standard accuracy {standard_scores[0].value:.1%}, and a line needs "
            "a spread; add weaker or stronger models"
        )
    pick_BM = np.random.default_rng(seed).integers(len(x_M), size=(_NUM_RESAMPLES, len(x_M)))
    pick_BM = pick_BM[np.ptp(x_M[pick_BM], axis=1) > 0]
    slope_B, intercept_B = _least_squares(x_M[pick_BM], y_M[pick_BM])
    slope_1, intercept_1 = _least_squares(x_M[None], y_M[None])
    return LogitLine(float(slope_1[0]), float(intercept_1[0]), slope_B, intercept_B)


def clip_accuracy(accuracy: float, n: int) -> float:
    """Move an accuracy of 0 or 1, whose logit is infinite, to half a sample of n + 1 from the end.

    That is Laplace's rule with half a sample; every accuracy that n samples can have in between stays as it is.

    >>> clip_accuracy(1.0, 99), clip_accuracy(0.5, 99)
    (0.995, 0.5)
    """
    end = 0.5 / (n + 1)
    return min(max(accuracy, end), 1 - end)


def zero_shot_by_subclasses(
    images: Embeddings, class_CE: NDArray[np.float32], subclasses: Sequence[Sequence[int]]
) -> ClassificationResult:
    """Rank a shift's G classes by the best of their subclasses among the C of the standard set (Taori et al.).

    It is the mapping of models that have one head, for the standard set. A model that reads class names can have
    a head for each shift instead, `zero_shot(images, own_GE)`: the paper's second mode, and its better one.

    Args:
        images: Labels are indices into `subclasses`.
        class_CE: Unit vectors of the standard set's classes.
        subclasses: For each of the G classes, at least one index into `class_CE`.

    Raises:
        DataError: Images without labels or with labels outside [0, G), NaN vectors, or a class without
            subclasses or with one that does not exist.
        ShapeError: The head is of another size than the vectors.
    """
    if images.labels is None:
        raise DataError("zero-shot accuracy needs labelled images")
    if images.vectors.shape[1] != class_CE.shape[1]:
        raise ShapeError(
            f"image vectors {images.vectors.shape} and class vectors {class_CE.shape} differ in E; "
            "encode both with one model"
        )
    if np.isnan(class_CE).any() or np.isnan(images.vectors).any():
        raise DataError("vectors hold NaN; the model that made them diverged")
    _check_subclasses(subclasses, len(class_CE))
    groups = len(subclasses)
    if len(images.labels) and not 0 <= images.labels.min() <= images.labels.max() < groups:
        raise DataError(
            f"labels from {images.labels.min()} to {images.labels.max()} for {groups} classes; "
            f"labels index the list of subclasses, from 0 to {groups - 1}"
        )
    flat = [member for members in subclasses for member in members]
    starts = np.cumsum([0, *map(len, subclasses)])[:-1]
    kept = min(5, groups)
    ranked_NK = np.zeros((len(images.vectors), kept), dtype=np.int64)
    for rows, cosine_NC in _cosines(images.vectors, class_CE[flat]):
        best_NG = np.maximum.reduceat(cosine_NC, starts, axis=1)
        ranked_NK[rows] = np.argsort(-best_NG, axis=1, kind="stable")[:, :kept]
    return ClassificationResult(ranked_NK=ranked_NK, label_N=images.labels, num_classes=groups)


def _cosines(
    vector_NE: NDArray[np.float32], class_CE: NDArray[np.float32]
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    for start in range(0, len(vector_NE), ROWS_PER_BLOCK):
        rows = slice(start, start + ROWS_PER_BLOCK)
        yield rows, vector_NE[rows] @ class_CE.T


def _check_subclasses(subclasses: Sequence[Sequence[int]], classes: int) -> None:
    for group, members in enumerate(subclasses):
        if not members:
            raise DataError(f"class {group} has no subclasses; give it at least one, or leave the class out")
        if unknown := [member for member in members if not 0 <= member < classes]:
            raise DataError(
                f"class {group} has the subclass {unknown[0]}, but the head has the classes 0 to {classes - 1}"
            )


def _least_squares(
    x_BM: NDArray[np.float64], y_BM: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return slope and intercept of B lines."""
    x_B, y_B = x_BM.mean(axis=1), y_BM.mean(axis=1)
    away_BM = x_BM - x_B[:, None]
    slope_B: NDArray[np.float64] = (away_BM * y_BM).sum(axis=1) / (away_BM**2).sum(axis=1)
    return slope_B, y_B - slope_B * x_B
