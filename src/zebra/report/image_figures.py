"""Images with what a model says of them in, matplotlib figures out."""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from zebra.errors import DataError
from zebra.report.style import ACCENT, FAINT, INK, MUTED, PAPER, SMALL, WIDTH, canvas, percent, plot
from zebra.values import Prediction

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def similarity_matrix(
    scores_NN: NDArray[np.float32], thumbnails: Sequence[Image], captions: Sequence[str]
) -> "Figure":
    """Draw the cosine of every caption with every picture; the true pairs, on the diagonal, are outlined.

    Args:
        scores_NN: [N, N] cosines, rows captions, columns pictures; readable for N up to about 12.
        thumbnails: N pictures, for the columns.
        captions: N captions, for the rows.

    Raises:
        DataError: the three do not agree on N.
    """
    from matplotlib.patches import Rectangle

    n = len(captions)
    if scores_NN.shape != (n, n) or len(thumbnails) != n:
        raise DataError(
            f"scores of shape {scores_NN.shape} for {len(thumbnails)} pictures and {n} captions; pass N of each"
        )
    left = 2.5
    size = (WIDTH - left) / n
    figure = canvas(WIDTH, size * (n + 1) + 0.1)
    axes = plot(figure, left=left, bottom=0.0, top=size + 0.1)
    low, high = float(scores_NN.min()), float(scores_NN.max())
    for row, column in np.ndindex(n, n):
        opacity = ((float(scores_NN[row, column]) - low) / max(high - low, 1e-6)) ** 1.5
        axes.add_patch(
            Rectangle((column - 0.47, row - 0.47), 0.94, 0.94, color=ACCENT, alpha=opacity, linewidth=0)
        )
        axes.text(column, row, f"{scores_NN[row, column]:.2f}".replace("0.", "."), fontsize=min(SMALL, 18 * size),
                  ha="center", va="center", color=PAPER if opacity > 0.5 else MUTED)  # fmt: skip
    for index in range(n):
        axes.add_patch(
            Rectangle((index - 0.47, index - 0.47), 0.94, 0.94, fill=False, edgecolor=INK, linewidth=1.3)
        )
    axes.set_xlim(-0.5, n - 0.5)
    axes.set_ylim(n - 0.5, -0.5)
    axes.set_xticks([])
    axes.set_yticks([])
    for row, caption in enumerate(captions):
        axes.annotate(_wrapped(caption, 40, 2), (0, row), xycoords=(figure.transFigure, axes.transData),
                      fontsize=SMALL, color=INK, va="center", annotation_clip=False)  # fmt: skip
    pictures = plot(figure, left=left, bottom=size * n + 0.06, top=0.0)
    for column, image in enumerate(thumbnails):
        _show(pictures, image, (column - 0.47, column + 0.47, -0.47, 0.47))
    pictures.set_xlim(-0.5, n - 0.5)
    pictures.set_ylim(-0.5, 0.5)
    pictures.set_xticks([])
    pictures.set_yticks([])
    return figure


def gallery(
    images: Sequence[Image], predictions: Sequence[Sequence[Prediction]], truth: Sequence[str], top: int = 3
) -> "Figure":
    """Draw each picture beside its best predictions as bars; the true one takes the accent colour.

    Args:
        images: N pictures.
        predictions: per picture, best first.
        truth: per picture, the label that is right.
        top: bars per picture.

    Raises:
        DataError: the three differ in length.
    """
    if not len(images) == len(predictions) == len(truth):
        raise DataError(
            f"{len(images)} pictures, {len(predictions)} predictions and {len(truth)} true labels; pass N of each"
        )
    side, gap, columns = 1.2, 0.3, 2
    width = (WIDTH - gap) / columns
    rows = -(-len(images) // columns)
    height = rows * (side + gap) - gap
    figure = canvas(WIDTH, height)
    for index, image in enumerate(images):
        x = (index % columns) * (width + gap)
        y = height - side - (index // columns) * (side + gap)
        frame = plot(figure, left=x, bottom=y, right=WIDTH - x - side, top=height - y - side)
        _show(frame, image, (0, 1, 0, 1))
        frame.set_axis_off()
        bars = plot(figure, left=x + side + 0.15, bottom=y, right=WIDTH - x - width, top=height - y - side)
        _draw_bars(bars, predictions[index][:top], truth[index])
    return figure


def _draw_bars(axes: "Axes", predictions: Sequence[Prediction], truth: str) -> None:
    for row, prediction in enumerate(predictions):
        color = ACCENT if prediction.label == truth else MUTED
        axes.barh(row + 0.27, 1, height=0.14, color=FAINT)
        axes.barh(row + 0.27, prediction.score, height=0.14, color=color)
        ink = INK if row == 0 else MUTED
        axes.text(0, row, _wrapped(prediction.label, 40, 1), fontsize=SMALL - 0.5, color=ink, va="center")
        axes.text(
            1, row, percent(prediction.score, 0), fontsize=SMALL - 0.5, color=ink, va="center", ha="right"
        )
    axes.set_xlim(0, 1)
    axes.set_ylim(len(predictions) - 0.5, -0.5)
    axes.set_axis_off()


def _show(axes: "Axes", image: Image, extent: tuple[float, float, float, float]) -> None:
    axes.imshow(np.asarray(image.convert("RGB")), extent=extent, aspect="auto", interpolation="none")


def _wrapped(text: str, width: int, lines: int) -> str:
    """Break text into lines, the last ending in … if there is more.

    >>> _wrapped("a horse with black and white stripes", 20, 1)
    'a horse with black …'
    """
    return "\n".join(textwrap.wrap(text, width, max_lines=lines, placeholder=" …"))
