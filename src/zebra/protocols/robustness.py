"""Effective and relative robustness under distribution shifts (CLIP §3.3).

The definitions follow Taori et al. 2020, "Measuring Robustness to Natural Distribution Shifts". For reference models,
trained on the standard dataset, accuracy under a shift is a linear function of standard accuracy after a logit
transform. *Effective* robustness is the difference from this line, *relative* robustness the difference from a
baseline model. Both are differences of accuracies.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit

from zebra.errors import DataError, suggest_name
from zebra.protocols.line_fit import MIN_POINTS, LineFit, fit_line
from zebra.protocols.metrics import average_scores, subtract_scores
from zebra.values import Score

AVERAGE_SHIFT = "average"
"""Name of the mean over all shifts, if there are several."""


@dataclass(frozen=True, slots=True)
class LogitLine:
    """Line that predicts the logit of shifted accuracy from the logit of standard accuracy."""

    fit: LineFit
    """The line on logits."""

    def predict(self, accuracy: ArrayLike) -> NDArray[np.float64]:
        """Return the predicted shifted accuracy for standard accuracies inside (0, 1)."""
        expected: NDArray[np.float64] = expit(self.fit.predict(logit(accuracy)))
        return expected

    def confidence_band(self, accuracy_N: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the low and high ends of the 95% interval of `predict` (Student's t on logits)."""
        x_N = logit(np.atleast_1d(np.asarray(accuracy_N, dtype=np.float64)))
        predicted_N, half_width_N = self.fit.predict(x_N), self.fit.half_width(x_N)
        return expit(predicted_N - half_width_N), expit(predicted_N + half_width_N)

    def predict_score(self, standard: Score) -> Score:
        """Return the prediction with an interval that combines the uncertainty of the line and of `standard`."""
        value = float(self.predict(clip_accuracy(standard.value, standard.n)))
        ends = [float(self.predict(clip_accuracy(end, standard.n))) for end in (standard.low, standard.high)]
        below, above = self.confidence_band(clip_accuracy(standard.value, standard.n))
        low = value - math.hypot(value - min(ends), value - below[0])
        high = value + math.hypot(max(ends) - value, above[0] - value)
        return Score(value, low, high, standard.n)


@dataclass(frozen=True, slots=True)
class ShiftRobustness:
    """Accuracy and robustness of all models under one shift, or under the average of all."""

    name: str
    line: LogitLine
    standard_scores: Mapping[str, Score]
    """Model → accuracy on the standard dataset, including references."""
    shifted_scores: Mapping[str, Score]
    """Model → accuracy under the shift, including references."""
    effective_robustness: Mapping[str, Score]
    """Model → accuracy minus the prediction of the line, without references."""
    relative_robustness: Mapping[str, Score]
    """Model → accuracy minus that of the baseline, without references."""


def evaluate_robustness(
    accuracies: Mapping[str, Mapping[str, Score]], standard: str, references: Sequence[str], baseline: str
) -> tuple[ShiftRobustness, ...]:
    """Evaluate the robustness of every model to each shift and to the average of all shifts (Fig. 13).

    Args:
        accuracies: Model → dataset → accuracy; all models need the standard dataset and the same shifts. Convert a
            published accuracy to a score with `proportion(round(accuracy * n), n)`.
        standard: The dataset that the others are shifts of.
        references: Models that the lines are fitted to, trained on the standard dataset.
        baseline: The model that relative robustness is measured from; may be a reference.

    Raises:
        DataError: Fewer than three references, references with equal standard accuracy, an unknown model, no shift,
            or a dataset that one model lacks.
    """
    for name in (*references, baseline):
        if name not in accuracies:
            raise DataError(f"no accuracies for the model {name!r}.{suggest_name(name, accuracies)}")
    if len(set(references)) < MIN_POINTS:
        raise DataError(
            f"robustness needs at least {MIN_POINTS} different reference models; got {len(set(references))}"
        )
    datasets = list(dict.fromkeys(name for scores in accuracies.values() for name in scores))
    for model, scores in accuracies.items():
        if missing := [name for name in (standard, *datasets) if name not in scores]:
            raise DataError(
                f"the model {model!r} has no accuracy on {missing[0]!r}. Evaluate every model on every dataset."
            )
    shifts = [name for name in datasets if name != standard]
    if not shifts:
        raise DataError(f"there is only the standard dataset {standard!r}. Add at least one shifted dataset.")
    standard_scores = {model: scores[standard] for model, scores in accuracies.items()}
    scores_by_shift = {name: {model: scores[name] for model, scores in accuracies.items()} for name in shifts}
    if len(shifts) > 1:
        scores_by_shift[AVERAGE_SHIFT] = {
            model: average_scores([scores[name] for name in shifts]) for model, scores in accuracies.items()
        }
    reference_models = list(dict.fromkeys(references))
    evaluated_models = [model for model in accuracies if model not in reference_models]
    results = []
    for name, shifted_scores in scores_by_shift.items():
        line = fit_logit_line(
            [standard_scores[model] for model in reference_models],
            [shifted_scores[model] for model in reference_models],
        )
        effective = {
            model: subtract_scores(shifted_scores[model], line.predict_score(standard_scores[model]))
            for model in evaluated_models
        }
        relative = {
            model: subtract_scores(shifted_scores[model], shifted_scores[baseline]) for model in evaluated_models
        }
        results.append(ShiftRobustness(name, line, standard_scores, shifted_scores, effective, relative))
    return tuple(results)


def fit_logit_line(standard_scores: Sequence[Score], shifted_scores: Sequence[Score]) -> LogitLine:
    """Fit the logits of shifted accuracies to those of standard ones, by least squares.

    Args:
        standard_scores: M scores of the reference models on the standard dataset.
        shifted_scores: M scores of the same models under the shift.

    Raises:
        DataError: Fewer than three models, or all have the same standard accuracy.
    """
    if len(standard_scores) != len(shifted_scores) or len(standard_scores) < MIN_POINTS:
        raise DataError(
            f"{len(standard_scores)} standard and {len(shifted_scores)} shifted accuracies of reference models. Pass "
            f"both for at least {MIN_POINTS} models."
        )
    x_M = logit([clip_accuracy(score.value, score.n) for score in standard_scores])
    y_M = logit([clip_accuracy(score.value, score.n) for score in shifted_scores])
    if np.ptp(x_M) == 0:
        raise DataError(
            f"all {len(x_M)} reference models have the standard accuracy {standard_scores[0].value:.1%}. A line needs "
            "different accuracies: add weaker or stronger models."
        )
    return LogitLine(fit_line(x_M, y_M))


def clip_accuracy(accuracy: float, n: int) -> float:
    """Clip an accuracy to [0.5 / (n + 1), 1 − 0.5 / (n + 1)], which keeps its logit finite.

    This is Laplace's rule with half a sample. It changes only the accuracies 0 and 1 of n samples.

    >>> clip_accuracy(1.0, 99), clip_accuracy(0.5, 99)
    (0.995, 0.5)
    """
    end = 0.5 / (n + 1)
    return min(max(accuracy, end), 1 - end)
