"""Scores and journal lines in, matplotlib figures out: how training went, and how well it worked."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zebra.errors import DataError
from zebra.report.style import (
    ACCENT,
    FAINT,
    INK,
    MUTED,
    NARROW,
    PAPER,
    SMALL,
    TEXT,
    WIDTH,
    canvas,
    percent,
    plot,
)
from zebra.values import Score

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def loss_curve(journal: Sequence[Mapping[str, Any]], highlight: str = "") -> "Figure":
    """Draw the loss over the samples seen, and below it the zero-shot checks, if there were any.

    Args:
        journal: lines of journal.jsonl: each with `samples` and `loss`, some with `checks` {set: top-1}.
        highlight: the check to draw in the accent colour.

    Raises:
        DataError: no line has a finite loss.
    """
    journal = [line for line in journal if np.isfinite(line["loss"])]
    if not journal:
        raise DataError(
            "the journal holds no step with a finite loss, so there is nothing to draw; train first"
        )
    checked = [line for line in journal if line.get("checks")]
    figure = canvas(NARROW, 5.0 if checked else 2.8)
    samples = np.array([line["samples"] for line in journal], dtype=float)
    loss = np.array([line["loss"] for line in journal], dtype=float)
    upper = plot(figure, left=0.45, bottom=3.0 if checked else 0.5, right=1.35, top=0.4)
    upper.plot(samples, loss, color=MUTED, linewidth=0.8, alpha=0.4)
    upper.plot(samples, _smooth(loss), color=INK, linewidth=1.8)
    upper.set_ylim(0, float(loss.max()) * 1.05)
    _name_panel(upper, "Training loss")
    _name_ends(upper, float(samples[-1]), {f"{_smooth(loss)[-1]:.2f}": (float(_smooth(loss)[-1]), INK)})
    panels = [upper]
    if checked:
        lower = plot(figure, left=0.45, bottom=0.5, right=1.35, top=2.75)
        _draw_checks(lower, checked, highlight)
        panels.append(lower)
    for axes in panels:
        axes.set_xlim(0, float(samples[-1]))
        axes.grid(axis="y", color=FAINT, linewidth=0.8)
        axes.xaxis.set_major_formatter(
            lambda value, _: f"{value / 1000:,.0f}k" if value >= 1000 else f"{value:.0f}"
        )
        axes.xaxis.set_major_locator(_few_ticks())
        axes.yaxis.set_major_locator(_few_ticks())
    if checked:
        upper.set_xticklabels([])
    panels[-1].set_xlabel("image–caption pairs seen", fontsize=SMALL, color=MUTED, loc="left", labelpad=6)
    return figure


def accuracy_bars(scores: Mapping[str, Score], chance: float = 0.0, highlight: str = "") -> "Figure":
    """Draw one bar per score with its 95 % interval, and the line of chance.

    Args:
        scores: label → score in [0, 1].
        chance: the accuracy of guessing, in [0, 1]; 0 draws none, for sets that differ in it.
        highlight: the label whose bar takes the accent colour.
    """
    figure, axes = _row_figure(list(scores))
    for row, (label, score) in enumerate(scores.items()):
        axes.barh(row, 1, height=0.2, color=FAINT)
        axes.barh(row, score.value, height=0.2, color=ACCENT if label == highlight else MUTED)
        axes.plot([score.low, score.high], [row, row], color=INK, linewidth=1.6, solid_capstyle="butt")
        if chance:
            axes.plot(chance, row, "|", color=INK, markersize=11, markeredgewidth=1.2)
        _write_value(axes, row, percent(score.value), f"{score.low:.1%} – {score.high:.1%}")
    guess = {f"chance {percent(chance)}": ("|", INK, INK)} if chance else {}
    _legend(axes, {"95 % interval": ("_", INK, INK)} | guess)
    return figure


def limits(scores: Mapping[str, tuple[Score, float]]) -> "Figure":
    """Draw each ability as a point with its 95 % interval on a line from 0 to 100 %, chance ticked on it.

    Args:
        scores: label → (score in [0, 1], accuracy of guessing in [0, 1]).
    """
    figure, axes = _row_figure(list(scores))
    for row, (score, chance) in enumerate(scores.values()):
        axes.plot([0, 1], [row, row], color=FAINT, linewidth=1.2)
        axes.plot([chance, score.value], [row, row], color=ACCENT, linewidth=1.6)
        axes.plot([score.low, score.high], [row, row], color=ACCENT, linewidth=7, alpha=0.25)
        axes.plot(chance, row, "|", color=INK, markersize=11, markeredgewidth=1.2)
        axes.plot(score.value, row, "o", color=ACCENT, markersize=8, clip_on=False)
        _write_value(axes, row, percent(score.value, 0), f"chance {percent(chance, 0)}")
    _legend(axes, {"chance": ("|", INK, INK), "accuracy and its 95 % interval": ("o", ACCENT, ACCENT)})
    return figure


def prompt_ladder(rungs: Mapping[str, tuple[Score, Score, Score]]) -> "Figure":
    """Draw per set the accuracy with the bare class name, with one prompt and with all prompts.

    Args:
        rungs: set → the three accuracies, in this order.
    """
    figure, axes = _row_figure(list(rungs))
    for row, (bare, one, every) in enumerate(rungs.values()):
        gain = f"{100 * (every.value - bare.value):+.1f}".replace("-", "−")
        axes.plot([0, 1], [row, row], color=FAINT, linewidth=1.2)
        axes.plot([every.low, every.high], [row, row], color=ACCENT, linewidth=7, alpha=0.25)
        axes.plot([bare.value, every.value], [row, row], color=ACCENT, linewidth=1.6)
        axes.plot(bare.value, row, "|", color=INK, markersize=11, markeredgewidth=1.2)
        axes.plot(one.value, row, "o", color=PAPER, markeredgecolor=INK, markersize=7, clip_on=False)
        axes.plot(every.value, row, "o", color=ACCENT, markersize=8, clip_on=False)
        detail = " → ".join(percent(score.value, 0) for score in (bare, one, every))
        _write_value(axes, row, gain, detail)
    _legend(
        axes,
        {
            "bare name": ("|", INK, INK),
            "one prompt": ("o", PAPER, INK),
            "all prompts, with interval": ("o", ACCENT, ACCENT),
        },
    )
    return figure


def confusion(counts_CC: NDArray[np.int64], names: Sequence[str]) -> "Figure":
    """Draw a confusion matrix, each row a true class as shares: right ones in ink, errors in the accent colour.

    Args:
        counts_CC: [C, C], rows true, columns predicted; readable for up to about 40 classes.
        names: C class names.

    Raises:
        DataError: the counts are not square, or do not fit the names.
    """
    classes = len(names)
    if counts_CC.shape != (classes, classes):
        raise DataError(f"counts of shape {counts_CC.shape} for {classes} names; pass [{classes}, {classes}]")
    share_CC = counts_CC / np.maximum(counts_CC.sum(axis=1, keepdims=True), 1)
    left, right, top = 1.2, 0.5, 0.25 + 0.06 * max(map(len, names), default=0)
    size = min(0.42, (WIDTH - left - right) / max(classes, 1))
    figure = canvas(WIDTH, size * classes + top)
    axes = plot(figure, left=left, bottom=0.0, right=WIDTH - left - size * classes, top=top)
    for row, column in zip(*np.nonzero(share_CC), strict=True):
        share = float(share_CC[row, column])
        _cell(axes, row, column, INK if row == column else ACCENT, 0.06 + 0.84 * share)
        if size >= 0.3 and share > 0.005:
            axes.text(column, row, f"{100 * share:.0f}", fontsize=SMALL, ha="center", va="center",
                      color=PAPER if share > 0.45 else INK)  # fmt: skip
    font = min(TEXT, 60 * size)
    axes.set_xlim(-0.5, classes - 0.5)
    axes.set_ylim(classes - 0.5, -0.5)
    _name_rows(axes, names, font)
    axes.set_xticks(
        range(classes), names, fontsize=font, color=INK, rotation=45, ha="left", rotation_mode="anchor"
    )
    axes.xaxis.tick_top()
    return figure


def _cell(axes: "Axes", row: int, column: int, color: str, opacity: float) -> None:
    """Fill one cell of a matrix; by opacity rather than a colour map, so that it suits either theme."""
    from matplotlib.patches import Rectangle

    axes.add_patch(
        Rectangle((column - 0.47, row - 0.47), 0.94, 0.94, color=color, alpha=opacity, linewidth=0)
    )


def _row_figure(labels: Sequence[str]) -> tuple["Figure", "Axes"]:
    """Return axes with a scale from 0 to 100 % and one row per label, which stands above its row's line."""
    figure = canvas(NARROW, 0.55 * len(labels) + 0.8)
    axes = plot(figure, left=0.05, bottom=0.35, right=0.25, top=0.45)
    axes.set_xlim(0, 1)
    axes.set_ylim(len(labels) - 0.7, -0.7)
    axes.set_yticks([])
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25", "50", "75", "100%"])
    for row, label in enumerate(labels):
        axes.annotate(label, (0, row), (0, 10), textcoords="offset points", fontsize=TEXT, color=INK)
    return figure, axes


def _legend(axes: "Axes", entries: Mapping[str, tuple[str, str, str]]) -> None:
    """Explain marks above the rows: name → (marker, face colour, edge colour)."""
    for name, (marker, face, edge) in entries.items():
        axes.plot([], [], marker, color=face, markeredgecolor=edge, markersize=7, label=name)
    axes.legend(loc="lower left", bbox_to_anchor=(-0.03, 1), ncols=len(entries), frameon=False, borderpad=0,
                fontsize=SMALL, labelcolor=MUTED, handletextpad=0.2, columnspacing=1.5)  # fmt: skip


def _name_rows(axes: "Axes", names: Sequence[str], size: float) -> None:
    """Write the rows' names from the left edge of the figure on, where the page's other content starts."""
    axes.set_yticks([])
    for row, name in enumerate(names):
        place = (axes.figure.transFigure, axes.transData)
        axes.annotate(
            name, (0, row), xycoords=place, fontsize=size, color=INK, va="center", annotation_clip=False
        )


def _write_value(axes: "Axes", row: int, value: str, detail: str) -> None:
    """Write a row's number above the right end of its line, with a quieter note before it."""
    for text, left, size, color, weight in (
        (value, 0, TEXT, INK, "bold"),
        (detail, -46, SMALL, MUTED, "normal"),
    ):
        axes.annotate(text, (1, row), (left, 10), textcoords="offset points", fontsize=size, color=color,
                      fontweight=weight, ha="right")  # fmt: skip


def _draw_checks(axes: "Axes", checked: Sequence[Mapping[str, Any]], highlight: str) -> None:
    names = dict.fromkeys(name for line in checked for name in line["checks"])
    ends = {}
    for name in names:
        points = [(line["samples"], line["checks"][name]) for line in checked if name in line["checks"]]
        color = ACCENT if name == highlight else MUTED
        axes.plot(*zip(*points, strict=True), color=color, linewidth=1.8, marker="o", markersize=3)
        ends[f"{name} {percent(points[-1][1], 0)}"] = (points[-1][1], color)
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}%")
    _name_panel(axes, "Zero-shot accuracy on held-out pictures")
    _name_ends(axes, float(checked[-1]["samples"]), ends)


def _name_panel(axes: "Axes", name: str) -> None:
    place = (axes.figure.transFigure, axes.transAxes)
    axes.annotate(name, (0, 1), (0, 14), xycoords=place, textcoords="offset points", fontsize=TEXT, color=INK,
                  fontweight="bold")  # fmt: skip


def _name_ends(axes: "Axes", x: float, ends: Mapping[str, tuple[float, str]]) -> None:
    """Label lines at their right ends instead of in a legend, moved apart where they would overlap."""
    low, high = axes.get_ylim()
    free = high
    for label, (value, color) in sorted(ends.items(), key=lambda item: -item[1][0]):
        y = min(value, free)
        free = y - 0.09 * (high - low)
        axes.annotate(label, (x, y), (9, 0), textcoords="offset points", fontsize=SMALL + 0.5, color=color,
                      va="center", annotation_clip=False)  # fmt: skip


def _smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average each value with its neighbours, over about a thirtieth of the curve."""
    reach = len(values) // 60
    sums = np.cumsum(np.concatenate([[0.0], values]))
    index = np.arange(len(values))
    low, high = np.maximum(index - reach, 0), np.minimum(index + reach + 1, len(values))
    smooth: NDArray[np.float64] = (sums[high] - sums[low]) / (high - low)
    return smooth


def _few_ticks() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(5, steps=[1, 2, 2.5, 5, 10])
