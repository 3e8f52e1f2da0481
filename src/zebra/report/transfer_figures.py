"""Figures of probes and models over datasets (CLIP Figs. 4, 7, 8, 10 and 12)."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from zebra.report.study_figures import add_legend, label_axes, round_ticks
from zebra.report.style import (
    ACCENT,
    FAINT,
    FOREGROUND,
    MUTED,
    NARROW_INCHES,
    SMALL_FONT_SIZE,
    add_axes,
    create_figure,
    format_percent,
    label_x_axis,
)
from zebra.values import Score

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CHARACTER_INCHES, LINE_INCHES = 0.066, 0.14
"""Size of a character in the small font, for the place of labels."""


def plot_labels_per_class(
    labels: Mapping[str, Score], texts: Mapping[str, str], median: float, mean: float
) -> "Figure":
    """Plot one bar per dataset on a log axis, with the median and the mean over datasets (Fig. 7).

    Args:
        labels: Dataset → labels per class.
        texts: Dataset → what is written at its bar.
        median: Labels per class at the median of the datasets.
        mean: Labels per class on average.
    """
    figure = create_figure(NARROW_INCHES, 0.3 * len(labels) + 1.2)
    left = 0.25 + CHARACTER_INCHES * max(map(len, labels))
    axes = add_axes(
        figure, left=left, bottom=0.45, right=0.15 + CHARACTER_INCHES * max(map(len, texts.values())), top=0.5
    )
    axes.set_xscale("log")
    ends = [end for score in labels.values() for end in (score.low, score.high)]
    low, high = min(*ends, 1.0) / 1.15, max(*ends, 2.0) * 1.15
    for row, (name, score) in enumerate(labels.items()):
        axes.barh(row, score.value - low, left=low, height=0.62, color=ACCENT, alpha=0.85, linewidth=0)
        axes.plot([score.low, score.high], [row, row], color=FOREGROUND, linewidth=1)
        axes.annotate(texts[name], (1, row), (6, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
                      fontsize=SMALL_FONT_SIZE, color=FOREGROUND, va="center")  # fmt: skip
    for value, style, label in ((median, "solid", f"median {median:.1f}"), (mean, (0, (2, 2)), f"mean {mean:.1f}")):
        axes.axvline(value, color=MUTED, linewidth=1.2, linestyle=style, label=label)
    axes.set_xlim(low, high)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_yticks(range(len(labels)), list(labels), fontsize=SMALL_FONT_SIZE, color=FOREGROUND)
    ticks = round_ticks(low, high)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.grid(axis="x", color=FAINT, linewidth=0.8)
    label_x_axis(axes, "labels per class of a linear probe that equals zero-shot")
    add_legend(axes)
    return figure


def plot_scatter(
    points: Mapping[str, tuple[Score, Score]],
    x_label: str,
    y_label: str,
    *,
    slope: float | None = None,
    has_diagonal: bool = False,
) -> "Figure":
    """Plot two scores of each dataset or model with their intervals (Figs. 8 and 12).

    Args:
        points: Name → scores on the x-axis and on the y-axis.
        x_label: Label of the x-axis.
        y_label: Label of the y-axis.
        slope: Slope of a line through the means of both.
        has_diagonal: Draw the line of equal scores.
    """
    x_N, y_N = (np.array([pair[axis].value for pair in points.values()]) for axis in (0, 1))
    ends = [end for pair in points.values() for score in pair for end in (score.low, score.high)]
    figure = create_figure(NARROW_INCHES, NARROW_INCHES)
    axes = add_axes(figure, left=0.5, bottom=0.55, right=0.1, top=0.6)
    x_limits, y_limits = ((min(ends), max(ends)),) * 2 if has_diagonal else (_limits(points, 0), _limits(points, 1))
    (x_low, x_high), (y_low, y_high) = _widen(*x_limits), _widen(*y_limits)
    if has_diagonal:
        axes.plot([x_low, x_high], [x_low, x_high], color=FAINT, linewidth=1.2, label="equal")
    if slope is not None:
        line_2 = np.array([x_low, x_high])
        axes.plot(line_2, y_N.mean() + slope * (line_2 - x_N.mean()), color=MUTED, linewidth=1.6, label="fitted line")
    for x, y in points.values():
        axes.plot([x.low, x.high], [y.value] * 2, color=ACCENT, linewidth=1, alpha=0.5)
        axes.plot([x.value] * 2, [y.low, y.high], color=ACCENT, linewidth=1, alpha=0.5)
    axes.plot(x_N, y_N, "o", color=ACCENT, markersize=5)
    axes.set_xlim(x_low, x_high)
    axes.set_ylim(y_low, y_high)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _position: format_percent(value, 0))
    axes.grid(color=FAINT, linewidth=0.5)
    _annotate_points(figure, axes, {name: (pair[0].value, pair[1].value) for name, pair in points.items()})
    label_axes(axes, x_label, y_label)
    if has_diagonal or slope is not None:
        add_legend(axes)
    return figure


def plot_against_compute(series: Mapping[str, Mapping[str, tuple[float, Score]]], unit: str, y_label: str) -> "Figure":
    """Plot scores against compute on a log axis, one color for each series (Figs. 4 and 10).

    Args:
        series: At most three: label → run → (compute, score). The runs of the first are named.
        unit: Label of the x-axis.
        y_label: Label of the y-axis.
    """
    figure = create_figure(NARROW_INCHES, 4.0)
    axes = add_axes(figure, left=0.5, bottom=0.55, right=0.1, top=0.6)
    axes.set_xscale("log")
    for (label, runs), color in zip(series.items(), (ACCENT, MUTED, FOREGROUND), strict=False):
        ordered = sorted(runs.values(), key=lambda point: point[0])
        axes.plot([x for x, _ in ordered], [y.value for _, y in ordered], "o", color=color, markersize=5, label=label)
        for x, y in ordered:
            axes.plot([x, x], [y.low, y.high], color=color, linewidth=1.2)
    compute = [x for runs in series.values() for x, _ in runs.values()]
    margin = max((max(compute) / min(compute)) ** 0.08, 1.05)
    low, high = min(compute) / margin, max(compute) * margin
    axes.set_xlim(low, high)
    scores = [score for runs in series.values() for _, score in runs.values()]
    axes.set_ylim(*_widen(min(score.low for score in scores), max(score.high for score in scores)))
    ticks = round_ticks(low, high)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(lambda value, _position: format_percent(value, 0))
    axes.grid(axis="y", color=FAINT, linewidth=0.8)
    _annotate_points(figure, axes, {run: (x, score.value) for run, (x, score) in next(iter(series.values())).items()})
    label_axes(axes, unit, y_label)
    if len(series) > 1:
        add_legend(axes)
    return figure


def _limits(points: Mapping[str, tuple[Score, Score]], axis: int) -> tuple[float, float]:
    return min(pair[axis].low for pair in points.values()), max(pair[axis].high for pair in points.values())


def _widen(low: float, high: float) -> tuple[float, float]:
    margin = 0.06 * max(high - low, 0.02)
    return low - margin, high + margin


def _annotate_points(figure: "Figure", axes: "Axes", points: Mapping[str, tuple[float, float]]) -> None:
    """Write the names of points beside them, each at the first of eight places where it covers nothing."""
    width, height = figure.get_size_inches()
    positions = {name: axes.transData.transform(point) / figure.dpi for name, point in points.items()}
    boxes = [(x - 0.05, y - 0.05, x + 0.05, y + 0.05) for x, y in positions.values()]
    for name, (x, y) in positions.items():
        text_width = CHARACTER_INCHES * len(name)
        for dx, dy in ((0.08, 0.08), (0.08, -0.16), (-0.08 - text_width, 0.08), (-0.08 - text_width, -0.16),
                       (0.08, 0.22), (0.08, -0.3), (-0.08 - text_width, 0.22), (-0.08 - text_width, -0.3)):  # fmt: skip
            box = (x + dx, y + dy, x + dx + text_width, y + dy + LINE_INCHES)
            is_inside = box[0] >= 0 and box[2] <= width and box[1] >= 0.4 and box[3] <= height - 0.5
            if is_inside and not any(_overlap(box, other) for other in boxes):
                boxes.append(box)
                axes.annotate(name, points[name], (72 * dx, 72 * dy), textcoords="offset points",
                              fontsize=SMALL_FONT_SIZE, color=FOREGROUND, ha="left", va="bottom")  # fmt: skip
                break


def _overlap(first: tuple[float, ...], second: tuple[float, ...]) -> bool:
    return first[0] < second[2] and second[0] < first[2] and first[1] < second[3] and second[1] < first[3]
