"""What studies of several models, runs or people found in, matplotlib figures out: CLIP's Figs. 9, 13 and 16."""

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
    """Draw shifted over standard accuracy on logit axes: the references' line with its band, models above or below.

    Args:
        references: model → (standard, shifted accuracy) of those that the line was fitted to.
        models: the same of those to be judged by it.
        line: standard accuracies [N] → the shifted ones to expect.
        band: standard accuracies [N] → the ends of the line's 95 % interval.
        standard: name of the standard set.
        shift: name of the shift, or of what it is an average of.
    """
    points = [_clip_accuracy(score) for pair in (*references.values(), *models.values()) for score in pair]
    low, high = min(_logit(points)) - 0.4, max(_logit(points)) + 0.4
    x_N = np.linspace(low, high, 100)
    share_N = 1 / (1 + np.exp(-x_N))
    figure = create_figure(NARROW_INCHES, NARROW_INCHES)
    axes = add_axes(figure, left=0.5, bottom=0.55, right=0.1, top=0.6)
    axes.plot([low, high], [low, high], color=FAINT, linewidth=1.2)
    below_N, above_N = band(share_N)
    axes.fill_between(x_N, _logit(below_N), _logit(above_N), color=MUTED, alpha=0.2, linewidth=0)
    axes.plot(x_N, _logit(line(share_N)), color=MUTED, linewidth=1.6, label="their line")
    for pairs, color, label in (
        (references, MUTED, "reference models"),
        (models, ACCENT, "measured against it"),
    ):
        axes.plot([], [], "o", color=color, markersize=6, label=label)
        for first, second in pairs.values():
            x, y = _logit([_clip_accuracy(first), _clip_accuracy(second)])
            ends = _logit(
                np.clip([second.low, second.high], _min_accuracy(second), 1 - _min_accuracy(second))
            )
            axes.plot([x, x], ends, color=color, linewidth=1.2)
            axes.plot(x, y, "o", color=color, markersize=6)
    for name, (first, second) in models.items():
        x, top = _logit([_clip_accuracy(first), min(second.high, 1 - _min_accuracy(second))])
        # Above its interval: beside it, the other models stand in the way.
        right = x > (low + high) / 2
        axes.annotate(name, (x, top), (4 if right else -4, 5), textcoords="offset points", fontsize=SMALL_FONT_SIZE, color=FOREGROUND,
                      ha="right" if right else "left", va="bottom")  # fmt: skip
    ticks = [share for share in TICK_ACCURACIES if low <= _logit(share) <= high]
    axes.set_xticks(_logit(ticks), [format_percent(share, 0) for share in ticks])
    axes.set_yticks(_logit(ticks), [format_percent(share, 0) for share in ticks])
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)
    axes.grid(color=FAINT, linewidth=0.5)
    _label_axes(axes, f"accuracy on {standard}", f"Accuracy under {shift}")
    _add_legend(axes)
    return figure


def plot_few_shot(curves: Mapping[str, tuple[Mapping[int, Score], Score, float]]) -> "Figure":
    """Draw per set the probe's accuracy over examples per class, and zero-shot's as a line across (Fig. 6).

    Args:
        curves: set → (examples per class → accuracy, zero-shot accuracy, accuracy of guessing).
    """
    columns, size = 3, 2.05
    rows = math.ceil(len(curves) / columns)
    figure = create_figure(WIDE_INCHES, rows * size + 0.35)
    for place, (name, (points, line, chance)) in enumerate(curves.items()):
        row, column = divmod(place, columns)
        axes = add_axes(
            figure,
            left=0.4 + column * WIDE_INCHES / columns,
            right=WIDE_INCHES - (column + 1) * WIDE_INCHES / columns + 0.1,
            bottom=0.5 + (rows - 1 - row) * size,
            top=0.65 + row * size,
        )
        shots = list(points)
        axes.fill_between(
            shots,
            [p.low for p in points.values()],
            [p.high for p in points.values()],
            color=MUTED,
            alpha=0.25,
            linewidth=0,
        )
        axes.plot(shots, [p.value for p in points.values()], color=FOREGROUND, linewidth=1.6, marker="o", markersize=3.5,
                  label="linear probe")  # fmt: skip
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
        if place == 0:
            handles, labels = axes.get_legend_handles_labels()
            figure.legend(handles, labels, loc="upper left", ncols=3, frameon=False, borderpad=0, fontsize=SMALL_FONT_SIZE,
                          labelcolor=MUTED)  # fmt: skip
        if row == rows - 1 or place + columns >= len(curves):
            axes.set_xlabel(
                "examples per class", fontsize=SMALL_FONT_SIZE, color=MUTED, loc="left", labelpad=4
            )
    return figure


def plot_scaling(
    runs: Mapping[str, tuple[float, float]],
    line: Callable[[NDArray[np.float64]], ArrayLike],
    band: Callable[[NDArray[np.float64]], tuple[ArrayLike, ArrayLike]],
    prediction: Callable[[NDArray[np.float64]], tuple[ArrayLike, ArrayLike]],
    unit: str,
) -> "Figure":
    """Draw error over compute on log axes, with the fitted line, its band, and that of one further run.

    Args:
        runs: name → (compute, error in (0, 1]).
        line: compute [N] → error.
        band: compute [N] → the ends of the line's 95 % interval.
        prediction: compute [N] → the ends of the 95 % interval of one further run.
        unit: of compute, for instance "GFLOP per image".
    """
    compute, error = np.array(list(runs.values()), dtype=float).T
    reach = (compute.max() / compute.min()) ** 0.08
    x_N = np.geomspace(compute.min() / reach, compute.max() * reach, 100)
    figure = create_figure(NARROW_INCHES, 4.0)
    axes = add_axes(figure, left=0.5, bottom=0.55, right=0.1, top=0.6)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.fill_between(
        x_N, *prediction(x_N), color=MUTED, alpha=0.12, linewidth=0, label="one further run, 95 %"
    )
    axes.fill_between(x_N, *band(x_N), color=ACCENT, alpha=0.25, linewidth=0, label="the line, 95 %")
    axes.plot(x_N, line(x_N), color=ACCENT, linewidth=1.6)
    axes.plot(compute, error, "o", color=FOREGROUND, markersize=6)
    right = np.median(compute)
    for name, (x, y) in runs.items():
        axes.annotate(name, (x, y), (-6, -13) if x > right else (6, 6), textcoords="offset points", fontsize=SMALL_FONT_SIZE,
                      color=FOREGROUND, ha="right" if x > right else "left")  # fmt: skip
    axes.set_xlim(x_N[0], x_N[-1])
    low, high = axes.get_ylim()
    axes.set_xticks(_round_ticks(x_N[0], x_N[-1]), [f"{value:g}" for value in _round_ticks(x_N[0], x_N[-1])])
    axes.set_yticks(_round_ticks(low, high), [f"{100 * value:g}%" for value in _round_ticks(low, high)])
    axes.minorticks_off()
    axes.grid(axis="y", color=FAINT, linewidth=0.8)
    _label_axes(axes, unit, "Error")
    _add_legend(axes)
    return figure


def plot_probe_differences(differences: Mapping[str, Score]) -> "Figure":
    """Draw zero-shot's lead over a supervised probe as a bar for each set, in the order given (Fig. 5)."""
    figure = create_figure(NARROW_INCHES, 0.3 * len(differences) + 0.8)
    axes = add_axes(
        figure, left=0.25 + 0.066 * max(map(len, differences), default=0), bottom=0.45, right=0.5, top=0.15
    )
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
    axes.set_xlabel(
        "points by which zero-shot is ahead", fontsize=SMALL_FONT_SIZE, color=MUTED, loc="left", labelpad=6
    )
    return figure


def plot_class_difficulty(
    classnames: Sequence[str], human_scores: Sequence[Score], model_scores: Sequence[Score]
) -> "Figure":
    """Draw each class as a row, with the accuracy of people (hollow) and of the model (solid) and their intervals.

    Raises:
        DataError: the three differ in length.
    """
    if not len(classnames) == len(human_scores) == len(model_scores):
        raise DataError(
            f"{len(classnames)} classes, {len(human_scores)} scores of people and {len(model_scores)} of the model; pass one of each"
        )
    figure = create_figure(NARROW_INCHES, 0.26 * len(classnames) + 0.8)
    axes = add_axes(
        figure, left=0.25 + 0.066 * max(map(len, classnames), default=0), bottom=0.35, right=0.25, top=0.4
    )
    marks: dict[str, dict[str, Any]] = {
        "people": {
            "marker": "o",
            "linestyle": "",
            "color": BACKGROUND,
            "markeredgecolor": FOREGROUND,
            "markersize": 6,
            "clip_on": False,
        },
        "the model": {"marker": "o", "linestyle": "", "color": ACCENT, "markersize": 7, "clip_on": False},
    }
    for row, (theirs, its) in enumerate(zip(human_scores, model_scores, strict=True)):
        axes.plot([0, 1], [row, row], color=FAINT, linewidth=1.2)
        for score, color, height in ((theirs, FOREGROUND, -0.12), (its, ACCENT, 0.12)):
            axes.plot([score.low, score.high], [row + height] * 2, color=color, linewidth=3, alpha=0.3)
        axes.plot(its.value, row, **marks["the model"])
        axes.plot(theirs.value, row, **marks["people"])
    for label, mark in marks.items():
        axes.plot([], [], label=label, **mark)
    axes.set_xlim(0, 1)
    axes.set_ylim(len(classnames) - 0.5, -0.5)
    axes.set_yticks(range(len(classnames)), classnames, fontsize=SMALL_FONT_SIZE, color=FOREGROUND)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25", "50", "75", "100%"])
    _add_legend(axes)
    return figure


def make_example_sheet(
    examples: Sequence[Sequence[Image.Image]], classnames: Sequence[str], image_size: int = 160
) -> Image.Image:
    """Lay out the examples of each class beside each other, under its name, in columns of classes.

    Args:
        examples: for each of C classes the same number of pictures.
        classnames: C names.
        image_size: of a picture's square, in pixels.
    """
    shots = max(map(len, examples))
    font, line, gap = ImageFont.load_default(16), 26, 12
    columns = max(1, round(math.sqrt(len(examples) / shots)))
    rows = -(-len(examples) // columns)
    width, height = shots * image_size + gap, image_size + line + gap
    sheet = Image.new("RGB", (columns * width + gap, rows * height + gap), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for number, (name, images) in enumerate(zip(classnames, examples, strict=True)):
        x, y = gap + number % columns * width, gap + number // columns * height
        shown = name
        while len(shown) > 1 and draw.textlength(shown, font) > width - gap:
            shown = f"{shown.removesuffix('…')[:-1]}…"
        draw.text((x, y), shown, FOREGROUND, font)
        for shot, image in enumerate(images):
            sheet.paste(
                ImageOps.pad(image.convert("RGB"), (image_size, image_size), color=BACKGROUND),
                (x + shot * image_size, y + line),
            )
    return sheet


def _clip_accuracy(score: Score) -> float:
    """Keep the logit finite, as the fit does: half a sample of n + 1 from 0 and 1."""
    return min(max(score.value, _min_accuracy(score)), 1 - _min_accuracy(score))


def _min_accuracy(score: Score) -> float:
    return 0.5 / (score.n + 1)


def _logit(accuracy: ArrayLike) -> NDArray[np.float64]:
    accuracy = np.asarray(accuracy, dtype=np.float64)
    transformed: NDArray[np.float64] = np.log(accuracy / (1 - accuracy))
    return transformed


def _round_ticks(low: float, high: float) -> list[float]:
    """Return round numbers for a log axis, more of them the fewer decades it covers."""
    reach = high / low
    steps = (1, 1.5, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9) if reach < 5 else (1, 2, 5) if reach < 300 else (1,)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [step * 10.0**decade for decade in decades for step in steps if low <= step * 10.0**decade <= high]


def _label_axes(axes: "Axes", x_label: str, y_label: str) -> None:
    axes.set_xlabel(x_label, fontsize=SMALL_FONT_SIZE, color=MUTED, loc="left", labelpad=6)
    axes.annotate(y_label, (0, 1), (0, 40), xycoords=(axes.figure.transFigure, axes.transAxes),
                  textcoords="offset points", fontsize=FONT_SIZE, color=FOREGROUND, fontweight="bold", va="top")  # fmt: skip


def _add_legend(axes: "Axes") -> None:
    axes.legend(loc="lower left", bbox_to_anchor=(-0.01, 1), ncols=3, frameon=False, borderpad=0, fontsize=SMALL_FONT_SIZE,
                labelcolor=MUTED, handletextpad=0.4, columnspacing=1.5)  # fmt: skip
