"""Training curves of several runs in one figure."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from zebra.report.figures import add_panel_title, create_tick_locator, format_count, label_line_ends, moving_average
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

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LogEntries = Sequence[Mapping[str, Any]]
COLORS, LINE_STYLES = (ACCENT, FOREGROUND, MUTED), ("-", "--", ":")
"""The styles of nine lines: all colors with the first line style come first."""
MIN_TOP_SCORE = 0.05
"""Smallest top of an axis of scores, so that noise near 0 does not look like a course."""
PANEL_INCHES, BOTTOM_INCHES, GAP_INCHES = 1.9, 0.5, 0.55
MAX_LEGEND_COLUMNS, LEGEND_CHARS = 3, 78
"""Largest number of columns of the legend, and the characters of a name that fit into one line of it."""


def plot_training_curves(logs: Mapping[str, LogEntries]) -> "Figure":
    """Plot the loss of all runs in one panel, and each validation score in a panel below.

    Args:
        logs: Run → lines of log.jsonl with `samples` and `loss`, some with `eval` {name: score in [0, 1]}.
    """
    names = list(dict.fromkeys(name for log in logs.values() for line in log for name in line.get("eval", {})))
    num_panels = 1 + len(names)
    longest = max(len(run) for run in logs)
    legend_columns = max(1, min(MAX_LEGEND_COLUMNS, LEGEND_CHARS // (longest + 6)))
    legend_top = 0.45 + 0.2 * -(-len(logs) // legend_columns)
    height = legend_top + num_panels * PANEL_INCHES + (num_panels - 1) * GAP_INCHES + BOTTOM_INCHES
    figure = create_figure(NARROW_INCHES, height)
    styles = {run: _line_style(index) for index, run in enumerate(logs)}
    panels = []
    for index in range(num_panels):
        top = legend_top + index * (PANEL_INCHES + GAP_INCHES)
        panels.append(add_axes(figure, left=0.45, bottom=height - top - PANEL_INCHES, right=0.75, top=top))
    losses = {run: _loss_points(log) for run, log in logs.items()}
    panels[0].set_ylim(0, 1.05 * max((loss for points in losses.values() for _, loss in points), default=1.0))
    _plot_lines(panels[0], losses, styles, "{:.2f}".format)
    add_panel_title(panels[0], "Training loss")
    for axes, name in zip(panels[1:], names, strict=True):
        points = {run: _score_points(log, name) for run, log in logs.items()}
        highest = max(score for line in points.values() for _, score in line)
        axes.set_ylim(0, min(1, max(1.1 * highest, MIN_TOP_SCORE)))
        _plot_lines(axes, points, styles, lambda value: format_percent(value, 0))
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g}%")
        add_panel_title(axes, name)
    max_samples = max(float(line["samples"]) for log in logs.values() for line in log)
    for axes in panels:
        axes.set_xlim(0, max_samples)
        axes.grid(axis="y", color=FAINT, linewidth=0.8)
        axes.xaxis.set_major_locator(create_tick_locator())
        axes.yaxis.set_major_locator(create_tick_locator())
        axes.xaxis.set_major_formatter(lambda value, _: format_count(value))
    for axes in panels[:-1]:
        axes.set_xticklabels([])
    label_x_axis(panels[-1], "image–caption pairs processed")
    for run, style in styles.items():
        panels[0].plot([], [], label=run, linewidth=1.8, **style)
    panels[0].legend(loc="upper left", bbox_to_anchor=(0, 1), bbox_transform=figure.transFigure, borderaxespad=0,
                     ncols=legend_columns, frameon=False, borderpad=0, fontsize=SMALL_FONT_SIZE,
                     labelcolor=FOREGROUND, handlelength=1.6)  # fmt: skip
    return figure


def _line_style(index: int) -> dict[str, Any]:
    return {"color": COLORS[index % len(COLORS)], "linestyle": LINE_STYLES[index // len(COLORS) % len(LINE_STYLES)]}


def _loss_points(log: LogEntries) -> list[tuple[float, float]]:
    finite = [line for line in log if np.isfinite(line["loss"])]
    smooth = moving_average(np.array([line["loss"] for line in finite], dtype=float))
    return [(float(line["samples"]), float(loss)) for line, loss in zip(finite, smooth, strict=True)]


def _score_points(log: LogEntries, name: str) -> list[tuple[float, float]]:
    return [(float(line["samples"]), float(line["eval"][name])) for line in log if name in line.get("eval", {})]


def _plot_lines(
    axes: "Axes",
    points: Mapping[str, Sequence[tuple[float, float]]],
    styles: Mapping[str, dict[str, Any]],
    format_value: Callable[[float], str],
) -> None:
    ends, last_x = {}, 0.0
    for run, line in points.items():
        if line:
            axes.plot(
                *zip(*line, strict=True),
                linewidth=1.8,
                marker="o" if len(line) < 20 else "",
                markersize=3,
                clip_on=False,
                **styles[run],
            )
            ends[run] = line[-1]
            last_x = max(last_x, line[-1][0])
    ends = {run: end for run, end in ends.items() if end[0] > 0.9 * last_x}  # a label far from its line would mislead
    # Labels are keys: blanks keep equal ones apart.
    labels = {
        format_value(y) + " " * index: (y, styles[run]["color"]) for index, (run, (_, y)) in enumerate(ends.items())
    }
    label_line_ends(axes, last_x, labels)
