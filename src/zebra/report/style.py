"""Common style of all figures: palette, sizes and number formats."""

from typing import TYPE_CHECKING

from zebra.values import Score

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Each color represents a variable of page.css. The page replaces colors by variables in the SVG, so one figure fits the
# light and the dark theme. The values are those of the light theme.
FOREGROUND, MUTED, FAINT, BACKGROUND, ACCENT = "#1b1a18", "#6f6c66", "#dedad2", "#fbfaf8", "#cf4a12"
CSS_VARIABLES = {
    FOREGROUND: "--foreground",
    MUTED: "--muted",
    FAINT: "--faint",
    BACKGROUND: "--background",
    ACCENT: "--accent",
}

WIDE_INCHES, NARROW_INCHES = 7.6, 5.4
"""Figure widths: the figure column of the page, and what a phone shows without scrolling."""
FONT_SIZE, SMALL_FONT_SIZE = 10.0, 8.5
"""Font sizes in points."""


def create_figure(width: float, height: float) -> "Figure":
    """Create an empty transparent figure; sizes in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    figure.patch.set_alpha(0)
    return figure


def add_axes(figure: "Figure", left: float, bottom: float, right: float = 0.0, top: float = 0.1) -> "Axes":
    """Add axes without a frame and with muted labels; margins in inches."""
    width, height = figure.get_size_inches()
    axes = figure.add_axes((left / width, bottom / height, 1 - (left + right) / width, 1 - (bottom + top) / height))
    axes.patch.set_alpha(0)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelsize=SMALL_FONT_SIZE, labelcolor=MUTED, pad=5)
    axes.set_axisbelow(True)
    return axes


def fill_cell(axes: "Axes", row: int, column: int, color: str, opacity: float) -> None:
    """Fill a cell of a matrix; opacity instead of a color map fits both themes."""
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle((column - 0.47, row - 0.47), 0.94, 0.94, color=color, alpha=opacity, linewidth=0))


def label_x_axis(axes: "Axes", label: str, pad: float = 6) -> None:
    """Label the x-axis at its left end; `pad` is the distance from the ticks in points."""
    axes.set_xlabel(label, fontsize=SMALL_FONT_SIZE, color=MUTED, loc="left", labelpad=pad)


def set_percent_ticks(axes: "Axes") -> None:
    """Let the x-axis run from 0 to 100%."""
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25", "50", "75", "100%"])


def format_percent(value: float, digits: int = 1) -> str:
    """Format a fraction as a percentage.

    >>> format_percent(0.934), format_percent(1.0), format_percent(0.5, digits=0)
    ('93.4%', '100%', '50%')
    """
    return "100%" if value == 1 else f"{value:.{digits}%}"


PLAIN_METRICS = frozenset(f"{name}{suffix}" for name in ("brier", "nll") for suffix in ("", "_calibrated"))
"""Metrics that are no shares: the Brier score is between 0 and 2, the negative log likelihood has no limit."""


def format_metric(metric: str, score: Score | None) -> str:
    """Format a score as `format_score`, or as plain numbers if its metric is no share.

    >>> format_metric("nll", Score(1.25, 1.0, 1.5, 90))
    '1.250 [1.000, 1.500]'
    """
    if score is None or metric not in PLAIN_METRICS:
        return format_score(score)
    return f"{score.value:.3f} [{score.low:.3f}, {score.high:.3f}]"


def format_score(score: Score | None, missing: str = "–") -> str:
    """Format a score with its 95 % interval as percentages; `missing` for None.

    >>> format_score(Score(0.5, 0.4, 0.6, 90)), format_score(None)
    ('50.0% [40.0%, 60.0%]', '–')
    """
    if score is None:
        return missing
    return f"{format_percent(score.value)} [{format_percent(score.low)}, {format_percent(score.high)}]"
