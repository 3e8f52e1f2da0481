"""Figures of studies over models, runs or people (CLIP Figs. 5, 6, 9, 13, 16)."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps

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
    label_x_axis,
    set_percent_ticks,
)
from zebra.values import Score

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TICK_ACCURACIES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)


def plot_robustness(
    references: Mapping[str, tuple[Score, Score]],
    models: Mapping[str, tuple[Score, Score]],
    line: Callable[[NDArray[np.float64]], ArrayLike],
    band: Callable[[NDArray[np.float64]], tuple[ArrayLike, ArrayLike]],
    standard: str,
    shift: str,
) -> "Figure":
    """Plot shifted against standard accuracy on logit axes, with the line of the reference models (Fig. 13).

    Args:
        references: Model → (standard, shifted accuracy) of the models that the line was fitted to.
        models: The same for the models to evaluate against the line.
        line: Standard accuracies [N] → predicted shifted accuracies [N].
        band: Standard accuracies [N] → low and high ends of the line's 95% interval.
        standard: Name of the standard dataset.
        shift: Name of the shifted dataset, or of the average of several.
    """
    points = [_clip_accuracy(score) for pair in (*references.values(), *models.values()) for score in pair]
    low, high = min(_logit(points)) - 0.4, max(_logit(points)) + 0.4
    x_N = np.linspace(low, high, 100)
    accuracy_N = 1 / (1 + np.exp(-x_N))
    figure = create_figure(NARROW_INCHES, NARROW_INCHES)
    axes = add_axes(figure, left=0.5, bottom=0.55, right=0.1, top=0.6)
    axes.plot([low, high], [low, high], color=FAINT, linewidth=1.2)
    below_N, above_N = band(accuracy_N)
    axes.fill_between(x_N, _logit(below_N), _logit(above_N), color=MUTED, alpha=0.2, linewidth=0)
    axes.plot(x_N, _logit(line(accuracy_N)), color=MUTED, linewidth=1.6, label="fitted line")
    for pairs, color, label in ((references, MUTED, "reference models"), (models, ACCENT, "evaluated models")):
        axes.plot([], [], "o", color=color, markersize=6, label=label)
        for first, second in pairs.values():
            x, y = _logit([_clip_accuracy(first), _clip_accuracy(second)])
            ends = _logit(np.clip([second.low, second.high], _min_accuracy(second), 1 - _min_accuracy(second)))
            axes.plot([x, x], ends, color=color, linewidth=1.2)
            axes.plot(x, y, "o", color=color, markersize=6)
    for name, (first, second) in models.items():
        x, top = _logit([_clip_accuracy(first), min(second.high, 1 - _min_accuracy(second))])
        # Above the interval, because labels beside it would overlap other models.
        right = x > (low + high) / 2
        axes.annotate(name, (x, top), (4 if right else -4, 5), textcoords="offset points", fontsize=SMALL_FONT_SIZE,
                      color=FOREGROUND, ha="right" if right else "left", va="bottom")  # fmt: skip
    ticks = [tick for tick in TICK_ACCURACIES if low <= _logit(tick) <= high]
    axes.set_xticks(_logit(ticks), [format_percent(tick, 0) for tick in ticks])
    axes.set_yticks(_logit(ticks), [format_percent(tick, 0) for tick in ticks])
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)
    axes.grid(color=FAINT, linewidth=0.5)
    label_axes(axes, f"accuracy on {standard}", f"Accuracy on {shift}")
    add_legend(axes)
    return figure


def plot_few_shot(curves: Mapping[str, tuple[Mapping[int, Score], Score, float]]) -> "Figure":
    """Plot the probe's accuracy against examples per class, with zero-shot accuracy as a line (Fig. 6).

    Args:
        curves: Dataset → (examples per class → accuracy, zero-shot accuracy, accuracy of random guessing).
    """
    columns, panel_height = 3, 2.05
    rows = math.ceil(len(curves) / columns)
    figure = create_figure(WIDE_INCHES, rows * panel_height + 0.35)
    for index, (name, (points, line, chance)) in enumerate(curves.items()):
        row, column = divmod(index, columns)
        axes = add_axes(
            figure,
            left=0.4 + column * WIDE_INCHES / columns,
            right=WIDE_INCHES - (column + 1) * WIDE_INCHES / columns + 0.1,
            bottom=0.5 + (rows - 1 - row) * panel_height,
            top=0.65 + row * panel_height,
        )
        shots = list(points)
        low, value, high = zip(*((point.low, point.value, point.high) for point in points.values()), strict=True)
        axes.fill_between(shots, low, high, color=MUTED, alpha=0.25, linewidth=0)
        axes.plot(shots, value, color=FOREGROUND, linewidth=1.6, marker="o",
                  markersize=3.5, label="linear probe")  # fmt: skip
        ends = [shots[0], shots[-1]]
        axes.fill_between(ends, [line.low] * 2, [line.high] * 2, color=ACCENT, alpha=0.15, linewidth=0)
        axes.plot(ends, [line.value] * 2, color=ACCENT, linewidth=1.6, label="zero-shot")
        axes.plot(ends, [chance] * 2, color=MUTED, linewidth=1, linestyle=(0, (1, 2)), label="chance")
        axes.set_xscale("log", base=2)
        axes.set_xticks(shots, [str(count) for count in shots])
        axes.minorticks_off()
        axes.set_ylim(0, 1)
        axes.set_yticks([0, 0.5, 1], ["0", "50", "100%"])
        axes.grid(axis="y", color=FAINT, linewidth=0.8)
        axes.annotate(name, (0, 1), (0, 7), xycoords="axes fraction", textcoords="offset points", fontsize=FONT_SIZE,
                      color=FOREGROUND, fontweight="bold")  # fmt: skip
        if index == 0:
            handles, labels = axes.get_legend_handles_labels()
            figure.legend(handles, labels, loc="upper left", ncols=3, frameon=False, borderpad=0,
                          fontsize=SMALL_FONT_SIZE, labelcolor=MUTED)  # fmt: skip
        if row == rows - 1 or index + columns >= len(curves):
            label_x_axis(axes, "examples per class", pad=4)
    return figure


def plot_scaling(
    runs: Mapping[str, tuple[float, float]],
    line: Callable[[NDArray[np.float64]], ArrayLike],
    band: Callable[[NDArray[np.float64]], tuple[ArrayLike, ArrayLike]],
    prediction: Callable[[NDArray[np.float64]], tuple[ArrayLike, ArrayLike]],
    unit: str,
) -> "Figure":
    """Plot error against compute on log axes, with the fitted line and its bands (Fig. 9).

    Args:
        runs: Name → (compute, error in (0, 1]).
        line: Compute [N] → error.
        band: Compute [N] → low and high ends of the line's 95% confidence interval.
        prediction: Compute [N] → low and high ends of the 95% prediction interval of one more run.
        unit: Unit of compute, for example "GFLOP per image".
    """
    compute, error = np.array(list(runs.values()), dtype=float).T
    margin = (compute.max() / compute.min()) ** 0.08
    x_N = np.geomspace(compute.min() / margin, compute.max() * margin, 100)
    figure = create_figure(NARROW_INCHES, 4.0)
    axes = add_axes(figure, left=0.5, bottom=0.55, right=0.1, top=0.6)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.fill_between(x_N, *prediction(x_N), color=MUTED, alpha=0.12, linewidth=0, label="one more run, 95% interval")
    axes.fill_between(x_N, *band(x_N), color=ACCENT, alpha=0.25, linewidth=0, label="line, 95% interval")
    axes.plot(x_N, line(x_N), color=ACCENT, linewidth=1.6)
    axes.plot(compute, error, "o", color=FOREGROUND, markersize=6)
    median = np.median(compute)
    for name, (x, y) in runs.items():
        axes.annotate(name, (x, y), (-6, -13) if x > median else (6, 6), textcoords="offset points",
                      fontsize=SMALL_FONT_SIZE, color=FOREGROUND, ha="right" if x > median else "left")  # fmt: skip
    axes.set_xlim(x_N[0], x_N[-1])
    low, high = axes.get_ylim()
    axes.set_xticks(round_ticks(x_N[0], x_N[-1]), [f"{value:g}" for value in round_ticks(x_N[0], x_N[-1])])
    axes.set_yticks(round_ticks(low, high), [f"{100 * value:g}%" for value in round_ticks(low, high)])
    axes.minorticks_off()
    axes.grid(axis="y", color=FAINT, linewidth=0.8)
    label_axes(axes, unit, "Error")
    add_legend(axes)
    return figure


def plot_differences(differences: Mapping[str, Score], label: str) -> "Figure":
    """Plot one bar per dataset, in the given order (Figs. 5 and 11); `label` names the axis, in points."""
    figure = create_figure(NARROW_INCHES, 0.3 * len(differences) + 0.8)
    axes = add_axes(figure, left=0.25 + 0.066 * max(map(len, differences), default=0), bottom=0.45, right=0.5, top=0.15)
    for row, score in enumerate(differences.values()):
        color = ACCENT if score.value > 0 else MUTED
        axes.barh(row, 100 * score.value, height=0.62, color=color, alpha=0.85, linewidth=0)
        axes.plot([100 * score.low, 100 * score.high], [row, row], color=FOREGROUND, linewidth=1)
        axes.annotate(f"{100 * score.value:+.1f}", (1, row), (6, 0), xycoords=("axes fraction", "data"),
                      textcoords="offset points", fontsize=SMALL_FONT_SIZE, color=FOREGROUND, va="center")  # fmt: skip
    axes.axvline(0, color=FOREGROUND, linewidth=0.8)
    axes.set_ylim(len(differences) - 0.5, -0.5)
    axes.set_yticks(range(len(differences)), list(differences), fontsize=SMALL_FONT_SIZE, color=FOREGROUND)
    axes.grid(axis="x", color=FAINT, linewidth=0.8)
    label_x_axis(axes, label)
    return figure


def plot_class_difficulty(
    classnames: Sequence[str], human_scores: Sequence[Score], model_scores: Sequence[Score]
) -> "Figure":
    """Plot the accuracy of humans (hollow) and of the model (solid) on each class, with intervals (Fig. 16).

    Raises:
        DataError: The arguments differ in length.
    """
    if not len(classnames) == len(human_scores) == len(model_scores):
        raise DataError(
            f"{len(classnames)} classes, {len(human_scores)} human scores and {len(model_scores)} model scores. Pass "
            "one of each."
        )
    figure = create_figure(NARROW_INCHES, 0.26 * len(classnames) + 0.8)
    axes = add_axes(figure, left=0.25 + 0.066 * max(map(len, classnames), default=0), bottom=0.35, right=0.25, top=0.4)
    marks: dict[str, dict[str, Any]] = {
        "humans": {"color": BACKGROUND, "markeredgecolor": FOREGROUND, "markersize": 6, "clip_on": False},
        "model": {"color": ACCENT, "markersize": 7, "clip_on": False},
    }
    for row, (human, model) in enumerate(zip(human_scores, model_scores, strict=True)):
        axes.plot([0, 1], [row, row], color=FAINT, linewidth=1.2)
        for score, color, height in ((human, FOREGROUND, -0.12), (model, ACCENT, 0.12)):
            axes.plot([score.low, score.high], [row + height] * 2, color=color, linewidth=3, alpha=0.3)
        axes.plot(model.value, row, "o", **marks["model"])
        axes.plot(human.value, row, "o", **marks["humans"])
    for label, mark in marks.items():
        axes.plot([], [], "o", label=label, **mark)
    set_percent_ticks(axes)
    axes.set_ylim(len(classnames) - 0.5, -0.5)
    axes.set_yticks(range(len(classnames)), classnames, fontsize=SMALL_FONT_SIZE, color=FOREGROUND)
    add_legend(axes)
    return figure


def make_example_sheet(examples: Sequence[Sequence[Image.Image]], classnames: Sequence[str]) -> Image.Image:
    """Draw the example images of each class, equally many for each, side by side below its name."""
    shots = max(map(len, examples))
    font, line_height, gap, image_size = ImageFont.load_default(16), 26, 12, 160
    columns = max(1, round(math.sqrt(len(examples) / shots)))
    rows = -(-len(examples) // columns)
    width, height = shots * image_size + gap, image_size + line_height + gap
    sheet = Image.new("RGB", (columns * width + gap, rows * height + gap), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for index, (name, images) in enumerate(zip(classnames, examples, strict=True)):
        x, y = gap + index % columns * width, gap + index // columns * height
        title = name
        while len(title) > 1 and draw.textlength(title, font) > width - gap:
            title = f"{title.removesuffix('…')[:-1]}…"
        draw.text((x, y), title, FOREGROUND, font)
        for shot, image in enumerate(images):
            sheet.paste(
                ImageOps.pad(image.convert("RGB"), (image_size, image_size), color=BACKGROUND),
                (x + shot * image_size, y + line_height),
            )
    return sheet


def _clip_accuracy(score: Score) -> float:
    """Keep the logit finite as the fit does: at least 0.5 / (n + 1) from 0 and 1."""
    return min(max(score.value, _min_accuracy(score)), 1 - _min_accuracy(score))


def _min_accuracy(score: Score) -> float:
    return 0.5 / (score.n + 1)


def _logit(accuracy: ArrayLike) -> NDArray[np.float64]:
    accuracy = np.asarray(accuracy, dtype=np.float64)
    transformed: NDArray[np.float64] = np.log(accuracy / (1 - accuracy))
    return transformed


def round_ticks(low: float, high: float) -> list[float]:
    """Return round numbers for a log axis; the fewer decades, the more numbers per decade."""
    ratio = high / low
    steps = (1, 1.5, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9) if ratio < 5 else (1, 2, 5) if ratio < 300 else (1,)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [step * 10.0**decade for decade in decades for step in steps if low <= step * 10.0**decade <= high]


def label_axes(axes: "Axes", x_label: str, y_label: str) -> None:
    """Label the x-axis below it and the y-axis above it."""
    label_x_axis(axes, x_label)
    axes.annotate(y_label, (0, 1), (0, 40), xycoords=(axes.figure.transFigure, axes.transAxes), va="top",
                  textcoords="offset points", fontsize=FONT_SIZE, color=FOREGROUND, fontweight="bold")  # fmt: skip


def add_legend(axes: "Axes") -> None:
    """Add a legend in one row above the axes."""
    axes.legend(loc="lower left", bbox_to_anchor=(-0.01, 1), ncols=3, frameon=False, borderpad=0,
                fontsize=SMALL_FONT_SIZE, labelcolor=MUTED, handletextpad=0.4, columnspacing=1.5)  # fmt: skip
