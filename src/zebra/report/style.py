"""One look for every figure: a palette that follows the page's light or dark theme, and bare axes."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Each colour stands for a variable of page.css: the page swaps them in the SVG, so that one figure
# serves both themes. The values are those of the light theme, for figures shown elsewhere.
FOREGROUND, MUTED, FAINT, BACKGROUND, ACCENT = "#1b1a18", "#6f6c66", "#dedad2", "#fbfaf8", "#cf4a12"
CSS_VARIABLES = {
    FOREGROUND: "--ink",
    MUTED: "--muted",
    FAINT: "--faint",
    BACKGROUND: "--paper",
    ACCENT: "--accent",
}

WIDE_INCHES, NARROW_INCHES = 7.6, 5.4
"""Inches: the width of the page's figure column, and one that a phone shows without scrolling."""
FONT_SIZE, SMALL_FONT_SIZE = 10.0, 8.5
"""Font sizes in points."""


def create_figure(width: float, height: float) -> "Figure":
    """Return an empty transparent figure of a size in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    figure.patch.set_alpha(0)
    return figure


def add_axes(figure: "Figure", left: float, bottom: float, right: float = 0.0, top: float = 0.1) -> "Axes":
    """Add bare axes inside margins given in inches: no frame, faint vertical scale, quiet labels."""
    width, height = figure.get_size_inches()
    axes = figure.add_axes(
        (left / width, bottom / height, 1 - (left + right) / width, 1 - (bottom + top) / height)
    )
    axes.patch.set_alpha(0)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelsize=SMALL_FONT_SIZE, labelcolor=MUTED, pad=5)
    axes.set_axisbelow(True)
    return axes


def format_percent(value: float, digits: int = 1) -> str:
    """Write a share as people read it.

    >>> format_percent(0.934), format_percent(1.0), format_percent(0.5, digits=0)
    ('93.4%', '100%', '50%')
    """
    return "100%" if value == 1 else f"{value:.{digits}%}"
