"""Figures of training and evaluation: loss, accuracy, prompts and confusion."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zebra.errors import DataError
from zebra.report.style import (
    ACCENT,
    BACKGROUND,
    FAINT,
    FONT_SIZE,
    FOREGROUND,
    MUTED,
    NARROW_INCHES,
    SMALL_FONT_SIZE,
    WIDE_INCHES,
    add_axes,
    create_figure,
    fill_cell,
    format_percent,
    label_x_axis,
    set_percent_ticks,
)
from zebra.values import Score

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_loss(log_entries: Sequence[Mapping[str, Any]], highlight: str = "") -> "Figure":
    """Plot the loss against the number of samples and, below, the evaluations during training.

    Args:
        log_entries: Lines of log.jsonl with `samples` and `loss`, some with `eval` {dataset: top-1 accuracy}.
        highlight: The dataset to draw in the accent color.

    Raises:
        DataError: No line has a finite loss.
    """
    log_entries = [line for line in log_entries if np.isfinite(line["loss"])]
    if not log_entries:
        raise DataError("cannot plot the loss: log.jsonl has no step with a finite loss. Train for at least one step.")
    eval_entries = [line for line in log_entries if line.get("eval")]
    figure = create_figure(NARROW_INCHES, 5.0 if eval_entries else 2.8)
    samples = np.array([line["samples"] for line in log_entries], dtype=float)
    loss = np.array([line["loss"] for line in log_entries], dtype=float)
    upper = add_axes(figure, left=0.45, bottom=3.0 if eval_entries else 0.5, right=1.7, top=0.4)
    upper.plot(samples, loss, color=MUTED, linewidth=0.8, alpha=0.4)
    upper.plot(samples, moving_average(loss), color=FOREGROUND, linewidth=1.8)
    upper.set_ylim(0, float(loss.max()) * 1.05)
    add_panel_title(upper, "Training loss")
    label_line_ends(
        upper, float(samples[-1]), {f"{moving_average(loss)[-1]:.2f}": (float(moving_average(loss)[-1]), FOREGROUND)}
    )
    panels = [upper]
    if eval_entries:
        lower = add_axes(figure, left=0.45, bottom=0.5, right=1.7, top=2.75)
        _plot_eval_curves(lower, eval_entries, highlight)
        panels.append(lower)
    for axes in panels:
        axes.set_xlim(0, float(samples[-1]))
        axes.grid(axis="y", color=FAINT, linewidth=0.8)
        axes.xaxis.set_major_formatter(lambda value, _: format_count(value))
        axes.xaxis.set_major_locator(create_tick_locator())
        axes.yaxis.set_major_locator(create_tick_locator())
    if eval_entries:
        upper.set_xticklabels([])
    label_x_axis(panels[-1], "image–caption pairs processed")
    return figure


def plot_accuracy_bars(scores: Mapping[str, Score], chance: float = 0.0, highlight: str = "") -> "Figure":
    """Plot one bar per score with its 95% interval and the chance level.

    Args:
        scores: Label → score in [0, 1].
        chance: Accuracy of random guessing, in [0, 1]; 0 if unknown or different between bars.
        highlight: The label whose bar has the accent color.
    """
    figure, axes = _create_row_figure(list(scores))
    for row, (label, score) in enumerate(scores.items()):
        axes.barh(row, 1, height=0.2, color=FAINT)
        axes.barh(row, score.value, height=0.2, color=ACCENT if label == highlight else MUTED)
        axes.plot([score.low, score.high], [row, row], color=FOREGROUND, linewidth=1.6, solid_capstyle="butt")
        if chance:
            axes.plot(chance, row, "|", color=FOREGROUND, markersize=11, markeredgewidth=1.2)
        _annotate_value(axes, row, format_percent(score.value), f"{score.low:.1%} – {score.high:.1%}")
    chance_entry = {f"chance {format_percent(chance)}": ("|", FOREGROUND, FOREGROUND)} if chance else {}
    _add_legend(axes, {"95% interval": ("_", FOREGROUND, FOREGROUND)} | chance_entry)
    return figure


def plot_limitations(scores: Mapping[str, tuple[Score, float]]) -> "Figure":
    """Plot each score with its 95% interval and the chance level on a line from 0 to 100%.

    Args:
        scores: Label → (score in [0, 1], accuracy of random guessing in [0, 1]).
    """
    figure, axes = _create_row_figure(list(scores))
    for row, (score, chance) in enumerate(scores.values()):
        axes.plot([0, 1], [row, row], color=FAINT, linewidth=1.2)
        axes.plot([chance, score.value], [row, row], color=ACCENT, linewidth=1.6)
        axes.plot([score.low, score.high], [row, row], color=ACCENT, linewidth=7, alpha=0.25)
        axes.plot(chance, row, "|", color=FOREGROUND, markersize=11, markeredgewidth=1.2)
        axes.plot(score.value, row, "o", color=ACCENT, markersize=8, clip_on=False)
        _annotate_value(axes, row, format_percent(score.value, 0), f"chance {format_percent(chance, 0)}")
    _add_legend(axes, {"chance": ("|", FOREGROUND, FOREGROUND), "accuracy with 95% interval": ("o", ACCENT, ACCENT)})
    return figure


def plot_prompt_ablation(scores: Mapping[str, tuple[Score, Score, Score]]) -> "Figure":
    """Plot the accuracy on each dataset with the class name alone, with one prompt and with all prompts.

    Args:
        scores: Dataset → the three accuracies, in this order.
    """
    figure, axes = _create_row_figure(list(scores))
    for row, (bare_name, one_prompt, all_prompts) in enumerate(scores.values()):
        gain = f"{100 * (all_prompts.value - bare_name.value):+.1f}".replace("-", "−")
        axes.plot([0, 1], [row, row], color=FAINT, linewidth=1.2)
        axes.plot([all_prompts.low, all_prompts.high], [row, row], color=ACCENT, linewidth=7, alpha=0.25)
        axes.plot([bare_name.value, all_prompts.value], [row, row], color=ACCENT, linewidth=1.6)
        axes.plot(bare_name.value, row, "|", color=FOREGROUND, markersize=11, markeredgewidth=1.2)
        axes.plot(one_prompt.value, row, "o", color=BACKGROUND, markeredgecolor=FOREGROUND, markersize=7, clip_on=False)
        axes.plot(all_prompts.value, row, "o", color=ACCENT, markersize=8, clip_on=False)
        detail = " → ".join(format_percent(score.value, 0) for score in (bare_name, one_prompt, all_prompts))
        _annotate_value(axes, row, gain, detail)
    _add_legend(
        axes,
        {
            "class name alone": ("|", FOREGROUND, FOREGROUND),
            "one prompt": ("o", BACKGROUND, FOREGROUND),
            "all prompts with 95% interval": ("o", ACCENT, ACCENT),
        },
    )
    return figure


def plot_confusion_matrix(counts_CC: NDArray[np.int64], classnames: Sequence[str]) -> "Figure":
    """Plot a confusion matrix in percent of each row, with errors in the accent color.

    Args:
        counts_CC: [C, C], rows true, columns predicted; readable for up to about 40 classes.
        classnames: C class names.

    Raises:
        DataError: The counts do not have the shape [C, C].
    """
    num_classes = len(classnames)
    if counts_CC.shape != (num_classes, num_classes):
        raise DataError(
            f"confusion matrix of shape {counts_CC.shape} for {num_classes} class names. Pass [{num_classes}, "
            f"{num_classes}]."
        )
    fraction_CC = counts_CC / np.maximum(counts_CC.sum(axis=1, keepdims=True), 1)
    left, right, top = 1.2, 0.5, 0.25 + 0.06 * max(map(len, classnames), default=0)
    cell_size = min(0.42, (WIDE_INCHES - left - right) / max(num_classes, 1))
    figure = create_figure(WIDE_INCHES, cell_size * num_classes + top)
    axes = add_axes(figure, left=left, bottom=0.0, right=WIDE_INCHES - left - cell_size * num_classes, top=top)
    for row, column in zip(*np.nonzero(fraction_CC), strict=True):
        fraction = float(fraction_CC[row, column])
        fill_cell(axes, row, column, FOREGROUND if row == column else ACCENT, 0.06 + 0.84 * fraction)
        if cell_size >= 0.3 and fraction > 0.005:
            axes.text(column, row, f"{100 * fraction:.0f}", fontsize=SMALL_FONT_SIZE, ha="center", va="center",
                      color=BACKGROUND if fraction > 0.45 else FOREGROUND)  # fmt: skip
    font_size = min(FONT_SIZE, 60 * cell_size)
    axes.set_xlim(-0.5, num_classes - 0.5)
    axes.set_ylim(num_classes - 0.5, -0.5)
    _label_rows(axes, classnames, font_size)
    axes.set_xticks(
        range(num_classes),
        classnames,
        fontsize=font_size,
        color=FOREGROUND,
        rotation=45,
        ha="left",
        rotation_mode="anchor",
    )
    axes.xaxis.tick_top()
    return figure


def _create_row_figure(labels: Sequence[str]) -> tuple["Figure", "Axes"]:
    """Create axes from 0 to 100% with one row per label and the label above its row."""
    figure = create_figure(NARROW_INCHES, 0.55 * len(labels) + 0.8)
    axes = add_axes(figure, left=0.05, bottom=0.35, right=0.25, top=0.45)
    set_percent_ticks(axes)
    axes.set_ylim(len(labels) - 0.7, -0.7)
    axes.set_yticks([])
    for row, label in enumerate(labels):
        axes.annotate(label, (0, row), (0, 10), textcoords="offset points", fontsize=FONT_SIZE, color=FOREGROUND)
    return figure, axes


def _add_legend(axes: "Axes", entries: Mapping[str, tuple[str, str, str]]) -> None:
    """Add a legend above the rows: name → (marker, face color, edge color)."""
    for name, (marker, face, edge) in entries.items():
        axes.plot([], [], marker, color=face, markeredgecolor=edge, markersize=7, label=name)
    axes.legend(loc="lower left", bbox_to_anchor=(-0.03, 1), ncols=len(entries), frameon=False, borderpad=0,
                fontsize=SMALL_FONT_SIZE, labelcolor=MUTED, handletextpad=0.2, columnspacing=1.5)  # fmt: skip


def _label_rows(axes: "Axes", names: Sequence[str], size: float) -> None:
    """Label the rows at the left edge of the figure, which aligns them with the text of the page."""
    axes.set_yticks([])
    for row, name in enumerate(names):
        coordinates = (axes.figure.transFigure, axes.transData)
        axes.annotate(
            name, (0, row), xycoords=coordinates, fontsize=size, color=FOREGROUND, va="center", annotation_clip=False
        )


def _annotate_value(axes: "Axes", row: int, value: str, detail: str) -> None:
    """Write the value of a row above its right end, after a muted detail."""
    for text, left, size, color, weight in (
        (value, 0, FONT_SIZE, FOREGROUND, "bold"),
        (detail, -46, SMALL_FONT_SIZE, MUTED, "normal"),
    ):
        axes.annotate(text, (1, row), (left, 10), textcoords="offset points", fontsize=size, color=color,
                      fontweight=weight, ha="right")  # fmt: skip


def _plot_eval_curves(axes: "Axes", log_entries: Sequence[Mapping[str, Any]], highlight: str) -> None:
    names = dict.fromkeys(name for line in log_entries for name in line["eval"])
    ends = {}
    for name in names:
        points = [(line["samples"], line["eval"][name]) for line in log_entries if name in line["eval"]]
        color = ACCENT if name == highlight else MUTED
        axes.plot(*zip(*points, strict=True), color=color, linewidth=1.8, marker="o", markersize=3)
        ends[f"{name} {format_percent(points[-1][1], 0)}"] = (points[-1][1], color)
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}%")
    add_panel_title(axes, "Validation during training")
    label_line_ends(axes, float(log_entries[-1]["samples"]), ends)


def add_panel_title(axes: "Axes", title: str) -> None:
    """Write a title above the axes, at the left edge of the figure."""
    coordinates = (axes.figure.transFigure, axes.transAxes)
    axes.annotate(title, (0, 1), (0, 14), xycoords=coordinates, textcoords="offset points", fontsize=FONT_SIZE,
                  color=FOREGROUND, fontweight="bold")  # fmt: skip


def label_line_ends(axes: "Axes", x: float, ends: Mapping[str, tuple[float, str]]) -> None:
    """Label lines at their right ends, moved apart where labels would overlap."""
    low, high = axes.get_ylim()
    max_y = high
    for label, (value, color) in sorted(ends.items(), key=lambda item: -item[1][0]):
        y = min(value, max_y)
        max_y = y - 0.09 * (high - low)
        axes.annotate(label, (x, y), (9, 0), textcoords="offset points", fontsize=SMALL_FONT_SIZE + 0.5, color=color,
                      va="center", annotation_clip=False)  # fmt: skip


def format_count(value: float) -> str:
    """Return a count in thousands from 1,000 on.

    >>> format_count(500), format_count(1500), format_count(2_000_000)
    ('500', '1.5k', '2,000k')
    """
    return f"{value:.0f}" if value < 1000 else f"{value / 1000:,.2f}".rstrip("0").rstrip(".") + "k"


def moving_average(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average each value with its neighbors, over about 1/30 of the curve."""
    half_width = len(values) // 60
    sums = np.cumsum(np.concatenate([[0.0], values]))
    index = np.arange(len(values))
    low, high = np.maximum(index - half_width, 0), np.minimum(index + half_width + 1, len(values))
    smooth: NDArray[np.float64] = (sums[high] - sums[low]) / (high - low)
    return smooth


def create_tick_locator() -> Any:
    """Return a locator of about five round ticks."""
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(5, steps=[1, 2, 2.5, 5, 10])
