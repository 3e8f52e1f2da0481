"""Figures that contain images: similarity matrix and predictions."""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from zebra.errors import DataError
from zebra.report.style import (
    ACCENT,
    BACKGROUND,
    FAINT,
    FOREGROUND,
    MUTED,
    SMALL_FONT_SIZE,
    WIDE_INCHES,
    add_axes,
    create_figure,
    fill_cell,
    format_percent,
)
from zebra.values import Prediction

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NUM_BARS = 3
"""Predictions shown for each image."""


def plot_similarity_matrix(
    scores_NN: NDArray[np.float32], thumbnails: Sequence[Image], captions: Sequence[str]
) -> "Figure":
    """Plot the cosine similarity of every caption with every image; matching pairs are outlined.

    Args:
        scores_NN: [N, N] cosines, rows captions, columns images; readable for N up to about 12.
        thumbnails: N images, for the columns.
        captions: N captions, for the rows.

    Raises:
        DataError: The arguments differ in N.
    """
    from matplotlib.patches import Rectangle

    n = len(captions)
    if scores_NN.shape != (n, n) or len(thumbnails) != n:
        raise DataError(
            f"similarity matrix of shape {scores_NN.shape} for {len(thumbnails)} images and {n} captions. Pass N of "
            "each."
        )
    left = 2.5
    size = (WIDE_INCHES - left) / n
    figure = create_figure(WIDE_INCHES, size * (n + 1) + 0.1)
    axes = add_axes(figure, left=left, bottom=0.0, top=size + 0.1)
    low, high = float(scores_NN.min()), float(scores_NN.max())
    for row, column in np.ndindex(n, n):
        opacity = ((float(scores_NN[row, column]) - low) / max(high - low, 1e-6)) ** 1.5
        fill_cell(axes, row, column, ACCENT, opacity)
        text = f"{scores_NN[row, column]:.2f}".replace("0.", ".")
        axes.text(column, row, text, fontsize=min(SMALL_FONT_SIZE, 18 * size), ha="center", va="center",
                  color=BACKGROUND if opacity > 0.5 else MUTED)  # fmt: skip
    for index in range(n):
        axes.add_patch(
            Rectangle((index - 0.47, index - 0.47), 0.94, 0.94, fill=False, edgecolor=FOREGROUND, linewidth=1.3)
        )
    axes.set_xlim(-0.5, n - 0.5)
    axes.set_ylim(n - 0.5, -0.5)
    axes.set_xticks([])
    axes.set_yticks([])
    for row, caption in enumerate(captions):
        axes.annotate(_wrap_text(caption, 40, 2), (0, row), xycoords=(figure.transFigure, axes.transData),
                      fontsize=SMALL_FONT_SIZE, color=FOREGROUND, va="center", annotation_clip=False)  # fmt: skip
    image_axes = add_axes(figure, left=left, bottom=size * n + 0.06, top=0.0)
    for column, image in enumerate(thumbnails):
        _show_image(image_axes, image, (column - 0.47, column + 0.47, -0.47, 0.47))
    image_axes.set_xlim(-0.5, n - 0.5)
    image_axes.set_ylim(-0.5, 0.5)
    image_axes.set_xticks([])
    image_axes.set_yticks([])
    return figure


def plot_predictions(
    images: Sequence[Image], predictions: Sequence[Sequence[Prediction]], labels: Sequence[str]
) -> "Figure":
    """Plot each image next to bars of its highest-ranked predictions; the true label has the accent color.

    Args:
        images: N images.
        predictions: The predictions for each image, highest-ranked first.
        labels: The true label of each image.

    Raises:
        DataError: The arguments differ in length.
    """
    if not len(images) == len(predictions) == len(labels):
        raise DataError(
            f"{len(images)} images, {len(predictions)} predictions and {len(labels)} true labels. Pass N of each."
        )
    side, gap, columns = 1.2, 0.3, 2
    width = (WIDE_INCHES - gap) / columns
    rows = -(-len(images) // columns)
    height = rows * (side + gap) - gap
    figure = create_figure(WIDE_INCHES, height)
    for index, image in enumerate(images):
        x = (index % columns) * (width + gap)
        y = height - side - (index // columns) * (side + gap)
        frame = add_axes(figure, left=x, bottom=y, right=WIDE_INCHES - x - side, top=height - y - side)
        _show_image(frame, image, (0, 1, 0, 1))
        frame.set_axis_off()
        bars = add_axes(figure, left=x + side + 0.15, bottom=y, right=WIDE_INCHES - x - width, top=height - y - side)
        _plot_bars(bars, predictions[index][:NUM_BARS], labels[index])
    return figure


def _plot_bars(axes: "Axes", predictions: Sequence[Prediction], label: str) -> None:
    for row, prediction in enumerate(predictions):
        color = ACCENT if prediction.label == label else MUTED
        axes.barh(row + 0.27, 1, height=0.14, color=FAINT)
        axes.barh(row + 0.27, prediction.score, height=0.14, color=color)
        text_color = FOREGROUND if row == 0 else MUTED
        for x, text, align in (
            (0, _wrap_text(prediction.label, 40, 1), "left"),
            (1, format_percent(prediction.score, 0), "right"),
        ):
            axes.text(x, row, text, fontsize=SMALL_FONT_SIZE - 0.5, color=text_color, va="center", ha=align)
    axes.set_xlim(0, 1)
    axes.set_ylim(len(predictions) - 0.5, -0.5)
    axes.set_axis_off()


def _show_image(axes: "Axes", image: Image, extent: tuple[float, float, float, float]) -> None:
    axes.imshow(np.asarray(image.convert("RGB")), extent=extent, aspect="auto", interpolation="none")


def _wrap_text(text: str, width: int, max_lines: int) -> str:
    """Wrap text; the last line ends with … if the text is longer.

    >>> _wrap_text("a horse with black and white stripes", 20, 1)
    'a horse with black …'
    """
    return "\n".join(textwrap.wrap(text, width, max_lines=max_lines, placeholder=" …"))
