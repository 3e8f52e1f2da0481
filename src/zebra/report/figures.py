"""Scores and journal lines in, matplotlib figures out: how training went, and how well it worked."""

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
    format_percent,
)
from zebra.values import Score

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_loss(log_entries: Sequence[Mapping[str, Any]], highlight: str = "") -> "Figure":
    """Draw the loss over the samples seen, and below it the zero-shot checks, if there were any.

    Args:
        log_entries: lines of log.jsonl: each with `samples` and `loss`, some with `checks` {set: top-1}.
        highlight: the check to draw in the accent colour.

    Raises:
        DataError: no line has a finite loss.
    """
    log_entries = [line for line in log_entries if np.isfinite(line["loss"])]
    if not log_entries:
        raise DataError(
            "the journal holds no step with a finite loss, so there is nothing to draw; train first"
        )
    checked = [line for line in log_entries if line.get("eval")]
    figure = create_figure(NARROW_INCHES, 5.0 if checked else 2.8)
    samples = np.array([line["samples"] for line in log_entries], dtype=float)
    loss = np.array([line["loss"] for line in log_entries], dtype=float)
    upper = add_axes(figure, left=0.45, bottom=3.0 if checked else 0.5, right=1.35, top=0.4)
    upper.plot(samples, loss, color=MUTED, linewidth=0.8, alpha=0.4)
    upper.plot(samples, _moving_average(loss), color=FOREGROUND, linewidth=1.8)
    upper.set_ylim(0, float(loss.max()) * 1.05)
    _add_panel_title(upper, "Training loss")
    _label_line_ends(
        upper,
        float(samples[-1]),
        {f"{_moving_average(loss)[-1]:.2f}": (float(_moving_average(loss)[-1]), FOREGROUND)},
    )
    panels = [upper]
    if checked:
        lower = add_axes(figure, left=0.45, bottom=0.5, right=1.35, top=2.75)
        _plot_eval_curves(lower, checked, highlight)
        panels.append(lower)
    for axes in panels:
        axes.set_xlim(0, float(samples[-1]))
        axes.grid(axis="y", color=FAINT, linewidth=0.8)
        axes.xaxis.set_major_formatter(
            lambda value, _: f"{value / 1000:,.0f}k" if value >= 1000 else f"{value:.0f}"
        )
        axes.xaxis.set_major_locator(_create_tick_locator())
        axes.yaxis.set_major_locator(_create_tick_locator())
    if checked:
        upper.set_xticklabels([])
    panels[-1].set_xlabel(
        "image–caption pairs seen", fontsize=SMALL_FONT_SIZE, color=MUTED, loc="left", labelpad=6
    )
    return figure


def plot_accuracy_bars(scores: Mapping[str, Score], chance: float = 0.0, highlight: str = "") -> "Figure":
    """Draw one bar per score with its 95 % interval, and the line of chance.

    Args:
        scores: label → score in [0, 1].
        chance: the accuracy of guessing, in [0, 1]; 0 draws none, for sets that differ in it.
        highlight: the label whose bar takes the accent colour.
    """
    figure, axes = _create_row_figure(list(scores))
    for row, (label, score) in enumerate(scores.items()):
        axes.barh(row, 1, height=0.2, color=FAINT)
        axes.barh(row, score.value, height=0.2, color=ACCENT if label == highlight else MUTED)
        axes.plot([score.low, score.high], [row, row], color=FOREGROUND, linewidth=1.6, solid_capstyle="butt")
        if chance:
            axes.plot(chance, row, "|", color=FOREGROUND, markersize=11, markeredgewidth=1.2)
        _annotate_value(axes, row, format_percent(score.value), f"{score.low:.1%} – {score.high:.1%}")
    guess = {f"chance {format_percent(chance)}": ("|", FOREGROUND, FOREGROUND)} if chance else {}
    _add_legend(axes, {"95 % interval": ("_", FOREGROUND, FOREGROUND)} | guess)
    return figure


def plot_limitations(scores: Mapping[str, tuple[Score, float]]) -> "Figure":
    """Draw each ability as a point with its 95 % interval on a line from 0 to 100 %, chance ticked on it.

    Args:
        scores: label → (score in [0, 1], accuracy of guessing in [0, 1]).
    """
    figure, axes = _create_row_figure(list(scores))
    for row, (score, chance) in enumerate(scores.values()):
        axes.plot([0, 1], [row, row], color=FAINT, linewidth=1.2)
        axes.plot([chance, score.value], [row, row], color=ACCENT, linewidth=1.6)
        axes.plot([score.low, score.high], [row, row], color=ACCENT, linewidth=7, alpha=0.25)
        axes.plot(chance, row, "|", color=FOREGROUND, markersize=11, markeredgewidth=1.2)
        axes.plot(score.value, row, "o", color=ACCENT, markersize=8, clip_on=False)
        _annotate_value(axes, row, format_percent(score.value, 0), f"chance {format_percent(chance, 0)}")
    _add_legend(
        axes,
        {"chance": ("|", FOREGROUND, FOREGROUND), "accuracy and its 95 % interval": ("o", ACCENT, ACCENT)},
    )
    return figure


def plot_prompt_ablation(scores: Mapping[str, tuple[Score, Score, Score]]) -> "Figure":
    """Draw per set the accuracy with the bare class name, with one prompt and with all prompts.

    Args:
        scores: set → the three accuracies, in this order.
    """
    figure, axes = _create_row_figure(list(scores))
    for row, (bare, one, every) in enumerate(scores.values()):
        gain = f"{100 * (every.value - bare.value):+.1f}".replace("-", "−")
        axes.plot([0, 1], [row, row], color=FAINT, linewidth=1.2)
        axes.plot([every.low, every.high], [row, row], color=ACCENT, linewidth=7, alpha=0.25)
        axes.plot([bare.value, every.value], [row, row], color=ACCENT, linewidth=1.6)
        axes.plot(bare.value, row, "|", color=FOREGROUND, markersize=11, markeredgewidth=1.2)
        axes.plot(
            one.value, row, "o", color=BACKGROUND, markeredgecolor=FOREGROUND, markersize=7, clip_on=False
        )
        axes.plot(every.value, row, "o", color=ACCENT, markersize=8, clip_on=False)
        detail = " → ".join(format_percent(score.value, 0) for score in (bare, one, every))
        _annotate_value(axes, row, gain, detail)
    _add_legend(
        axes,
        {
            "bare name": ("|", FOREGROUND, FOREGROUND),
            "one prompt": ("o", BACKGROUND, FOREGROUND),
            "all prompts, with interval": ("o", ACCENT, ACCENT),
        },
    )
    return figure


def plot_confusion_matrix(counts_CC: NDArray[np.int64], classnames: Sequence[str]) -> "Figure":
    """Draw a confusion matrix, each row a true class as shares: right ones in ink, errors in the accent colour.

    Args:
        counts_CC: [C, C], rows true, columns predicted; readable for up to about 40 classes.
        classnames: C class names.

    Raises:
        DataError: the counts are not square, or do not fit the names.
    """
    classes = len(classnames)
    if counts_CC.shape != (classes, classes):
        raise DataError(f"counts of shape {counts_CC.shape} for {classes} names; pass [{classes}, {classes}]")
    share_CC = counts_CC / np.maximum(counts_CC.sum(axis=1, keepdims=True), 1)
    left, right, top = 1.2, 0.5, 0.25 + 0.06 * max(map(len, classnames), default=0)
    size = min(0.42, (WIDE_INCHES - left - right) / max(classes, 1))
    figure = create_figure(WIDE_INCHES, size * classes + top)
    axes = add_axes(figure, left=left, bottom=0.0, right=WIDE_INCHES - left - size * classes, top=top)
    for row, column in zip(*np.nonzero(share_CC), strict=True):
        share = float(share_CC[row, column])
        _fill_cell(axes, row, column, FOREGROUND if row == column else ACCENT, 0.06 + 0.84 * share)
        if size >= 0.3 and share > 0.005:
            axes.text(column, row, f"{100 * share:.0f}", fontsize=SMALL_FONT_SIZE, ha="center", va="center",
                      color=BACKGROUND if share > 0.45 else FOREGROUND)  # fmt: skip
    font = min(FONT_SIZE, 60 * size)
    axes.set_xlim(-0.5, classes - 0.5)
    axes.set_ylim(classes - 0.5, -0.5)
    _label_rows(axes, classnames, font)
    axes.set_xticks(
        range(classes),
        classnames,
        fontsize=font,
        color=FOREGROUND,
        rotation=45,
        ha="left",
        rotation_mode="anchor",
    )
    axes.xaxis.tick_top()
    return figure


def _fill_cell(axes: "Axes", row: int, column: int, color: str, opacity: float) -> None:
    """Fill one cell of a matrix; by opacity rather than a colour map, so that it suits either theme."""
    from matplotlib.patches import Rectangle

    axes.add_patch(
        Rectangle((column - 0.47, row - 0.47), 0.94, 0.94, color=color, alpha=opacity, linewidth=0)
    )


def _create_row_figure(labels: Sequence[str]) -> tuple["Figure", "Axes"]:
    """Return axes with a scale from 0 to 100 % and one row per label, which stands above its row's line."""
    figure = create_figure(NARROW_INCHES, 0.55 * len(labels) + 0.8)
    axes = add_axes(figure, left=0.05, bottom=0.35, right=0.25, top=0.45)
    axes.set_xlim(0, 1)
    axes.set_ylim(len(labels) - 0.7, -0.7)
    axes.set_yticks([])
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25", "50", "75", "100%"])
    for row, label in enumerate(labels):
        axes.annotate(
            label, (0, row), (0, 10), textcoords="offset points", fontsize=FONT_SIZE, color=FOREGROUND
        )
    return figure, axes


def _add_legend(axes: "Axes", entries: Mapping[str, tuple[str, str, str]]) -> None:
    """Explain marks above the rows: name → (marker, face colour, edge colour)."""
    for name, (marker, face, edge) in entries.items():
        axes.plot([], [], marker, color=face, markeredgecolor=edge, markersize=7, label=name)
    axes.legend(loc="lower left", bbox_to_anchor=(-0.03, 1), ncols=len(entries), frameon=False, borderpad=0,
                fontsize=SMALL_FONT_SIZE, labelcolor=MUTED, handletextpad=0.2, columnspacing=1.5)  # fmt: skip


def _label_rows(axes: "Axes", names: Sequence[str], size: float) -> None:
    """Write the rows' names from the left edge of the figure on, where the page's other content starts."""
    axes.set_yticks([])
    for row, name in enumerate(names):
        place = (axes.figure.transFigure, axes.transData)
        axes.annotate(
            name,
            (0, row),
            xycoords=place,
            fontsize=size,
            color=FOREGROUND,
            va="center",
            annotation_clip=False,
        )


def _annotate_value(axes: "Axes", row: int, value: str, detail: str) -> None:
    """Write a row's number above the right end of its line, with a quieter note before it."""
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
    _add_panel_title(axes, "Zero-shot accuracy on held-out pictures")
    _label_line_ends(axes, float(log_entries[-1]["samples"]), ends)


def _add_panel_title(axes: "Axes", title: str) -> None:
    place = (axes.figure.transFigure, axes.transAxes)
    axes.annotate(title, (0, 1), (0, 14), xycoords=place, textcoords="offset points", fontsize=FONT_SIZE, color=FOREGROUND,
                  fontweight="bold")  # fmt: skip


def _label_line_ends(axes: "Axes", x: float, ends: Mapping[str, tuple[float, str]]) -> None:
    """Label lines at their right ends instead of in a legend, moved apart where they would overlap."""
    low, high = axes.get_ylim()
    free = high
    for label, (value, color) in sorted(ends.items(), key=lambda item: -item[1][0]):
        y = min(value, free)
        free = y - 0.09 * (high - low)
        axes.annotate(label, (x, y), (9, 0), textcoords="offset points", fontsize=SMALL_FONT_SIZE + 0.5, color=color,
                      va="center", annotation_clip=False)  # fmt: skip


def _moving_average(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average each value with its neighbours, over about a thirtieth of the curve."""
    reach = len(values) // 60
    sums = np.cumsum(np.concatenate([[0.0], values]))
    index = np.arange(len(values))
    low, high = np.maximum(index - reach, 0), np.minimum(index + reach + 1, len(values))
    smooth: NDArray[np.float64] = (sums[high] - sums[low]) / (high - low)
    return smooth


def _create_tick_locator() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(5, steps=[1, 2, 2.5, 5, 10])
