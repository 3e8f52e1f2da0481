"""Reliability diagrams of zero-shot probabilities."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from zebra.evaluators.calibration import CALIBRATION_TASK
from zebra.evaluators.results import TaskResult
from zebra.protocols.calibration import NUM_BINS, assign_bins
from zebra.report.page import Section
from zebra.report.style import (
    ACCENT,
    FAINT,
    FONT_SIZE,
    FOREGROUND,
    MUTED,
    SMALL_FONT_SIZE,
    WIDE_INCHES,
    add_axes,
    create_figure,
    format_percent,
    label_x_axis,
    set_percent_ticks,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL_INCHES, SHARES_INCHES = 3.0, 0.7


def calibration_sections(results: Sequence[TaskResult]) -> list[Section]:
    """Draw the reliability diagrams of each dataset."""
    return [_calibration_section(result) for result in results if result.task == CALIBRATION_TASK]


def _calibration_section(result: TaskResult) -> Section:
    assert result.predictions is not None
    rows = result.predictions
    held_out = rows.filter(pc.is_valid(rows["calibrated_confidence"]))
    confidence_N, confidence_M = np.asarray(rows["confidence"]), np.asarray(held_out["calibrated_confidence"])
    correct_N, correct_M = np.asarray(rows["correct"]), np.asarray(held_out["correct"])
    accuracy, confidence = float(correct_N.mean()), float(confidence_N.mean())
    direction = "overconfident" if confidence > accuracy else "underconfident"
    before, after = (result.scores[name].value for name in ("ece", "ece_calibrated"))
    summary = (
        f"The model gives its predictions a probability of {format_percent(confidence)} on average, and "
        f"{format_percent(accuracy)} of them are right: it is {direction}. The expected calibration error is "
        f"{format_percent(before)}, and {format_percent(after)} with a temperature that is fitted to the other half of "
        "the images. A bar is the accuracy of the predictions in a range of probabilities; the line marks their mean "
        "probability, which calibrated predictions reach."
    )
    figure = plot_reliability(
        {
            f"Temperature of the model, {len(correct_N):,} images": (confidence_N, correct_N),
            f"Fitted temperature, {len(correct_M):,} images": (confidence_M, correct_M),
        }
    )
    return Section(f"Calibration on {result.dataset}", summary, figure)


def plot_reliability(panels: dict[str, tuple[NDArray[np.floating], NDArray[np.bool_]]]) -> "Figure":
    """Plot accuracy against confidence in 15 ranges, above the share of the predictions in each.

    Args:
        panels: Title → confidences in [0, 1] and whether each prediction is right.
    """
    left, gap = 0.4, 0.75
    height = PANEL_INCHES + SHARES_INCHES + 1.1
    figure = create_figure(WIDE_INCHES, height)
    for column, (title, (confidence_N, correct_N)) in enumerate(panels.items()):
        start = left + column * (PANEL_INCHES + gap)
        right = WIDE_INCHES - start - PANEL_INCHES
        upper = add_axes(figure, start, SHARES_INCHES + 0.7, right, height - PANEL_INCHES - SHARES_INCHES - 0.7)
        lower = add_axes(figure, start, 0.5, right, height - SHARES_INCHES - 0.5)
        _plot_panel(upper, lower, confidence_N, correct_N)
        upper.set_title(title, loc="left", fontsize=FONT_SIZE, color=FOREGROUND, pad=10)
    return figure


def _plot_panel(upper: "Axes", lower: "Axes", confidence_N: NDArray[np.floating], correct_N: NDArray[np.bool_]) -> None:
    bin_N, width = assign_bins(confidence_N), 1 / NUM_BINS
    count_B = np.bincount(bin_N, minlength=NUM_BINS)
    used_U = np.flatnonzero(count_B)
    accuracy_U, confidence_U = (
        np.bincount(bin_N, weights=value_N, minlength=NUM_BINS)[used_U] / count_B[used_U]
        for value_N in (correct_N, confidence_N)
    )
    center_U = (used_U + 0.5) * width
    upper.plot([0, 1], [0, 1], color=FAINT, linewidth=1.2)
    upper.bar(center_U, accuracy_U, 0.86 * width, color=MUTED, alpha=0.45, linewidth=0)
    upper.bar(
        center_U, confidence_U - accuracy_U, 0.86 * width, bottom=accuracy_U, color=ACCENT, alpha=0.2, linewidth=0
    )
    upper.hlines(confidence_U, center_U - 0.43 * width, center_U + 0.43 * width, color=ACCENT, linewidth=2)
    lower.bar(center_U, count_B[used_U] / len(bin_N), 0.86 * width, color=MUTED, linewidth=0)
    for axes in (upper, lower):
        set_percent_ticks(axes)
    upper.set_xticklabels([])
    upper.set_ylim(0, 1)
    upper.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25", "50", "75", "100%"])
    upper.text(0.02, 0.97, "accuracy", fontsize=SMALL_FONT_SIZE, color=MUTED, va="top")
    highest = float(count_B.max()) / len(bin_N)
    lower.set_ylim(0, highest)
    lower.set_yticks([highest], [format_percent(highest, 0)])
    label_x_axis(lower, "probability of the prediction, share of predictions")
