"""Choosing between captions that differ in a detail: vectors of pictures and captions in, scores out.

SugarCrepe (Hsieh et al. 2023): one picture, a true and a false caption. Winoground (Thrush et al. 2022): two pictures
and two captions of the same words. A tie is wrong everywhere: who cannot tell two captions apart has not chosen.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zebra.errors import DataError, ShapeError
from zebra.protocols.metrics import proportion
from zebra.values import Score


@dataclass(frozen=True, slots=True)
class SugarCrepeResult:
    """Whether the true caption was chosen; chance is one half."""

    correct_N: NDArray[np.bool_]
    category_N: tuple[str, ...]
    """Of the change that makes the caption false: swap_obj, replace_att, …"""

    def scores(self) -> dict[str, Score]:
        """Return the accuracy of every category, in the order they first occur, then of all as "accuracy"."""
        category_N = np.array(self.category_N)
        scores = {}
        for category in dict.fromkeys(self.category_N):
            correct = self.correct_N[category_N == category]
            scores[category] = proportion(int(correct.sum()), len(correct))
        return scores | {"accuracy": proportion(int(self.correct_N.sum()), len(self.correct_N))}


@dataclass(frozen=True, slots=True)
class WinogroundResult:
    """Two pictures and two captions each; chance is 1/4 for text and image, 1/6 for the group."""

    text_N: NDArray[np.bool_]
    """Whether each picture chose its caption."""
    image_N: NDArray[np.bool_]
    """Whether each caption chose its picture."""

    @property
    def group_N(self) -> NDArray[np.bool_]:
        """Whether all four choices are right."""
        return self.text_N & self.image_N

    def scores(self) -> dict[str, Score]:
        """Return the text, image and group score."""
        outcomes = {"text": self.text_N, "image": self.image_N, "group": self.group_N}
        return {name: proportion(int(right_N.sum()), len(right_N)) for name, right_N in outcomes.items()}


def evaluate_sugarcrepe(
    image_NE: NDArray[np.float32],
    positive_NE: NDArray[np.float32],
    negative_NE: NDArray[np.float32],
    categories: Sequence[str],
) -> SugarCrepeResult:
    """Let every picture choose between its true and its false caption.

    Raises:
        DataError: There are no pictures, a category per picture is missing, "accuracy" is the name of one, or
            vectors hold NaN.
        ShapeError: The vectors do not belong together.
    """
    if not image_NE.shape == positive_NE.shape == negative_NE.shape:
        raise ShapeError(
            f"pictures {image_NE.shape}, true {positive_NE.shape} and false captions {negative_NE.shape} must be alike [N, E]"
        )
    if len(categories) != len(image_NE) or "accuracy" in categories:
        raise DataError(
            f"{len(categories)} categories for {len(image_NE)} pictures: each has one, not named 'accuracy'"
        )
    _check_vectors(image_NE, positive_NE, negative_NE)
    correct_N = _dot_float64("ne,ne->n", image_NE, positive_NE) > _dot_float64(
        "ne,ne->n", image_NE, negative_NE
    )
    return SugarCrepeResult(correct_N, tuple(categories))


def evaluate_winoground(image_N2E: NDArray[np.float32], caption_N2E: NDArray[np.float32]) -> WinogroundResult:
    """Match two pictures with two captions; the first picture belongs to the first caption.

    Raises:
        DataError: There are no pairs, or vectors hold NaN.
        ShapeError: The vectors are not two of one size for every sample.
    """
    if image_N2E.shape != caption_N2E.shape or image_N2E.ndim != 3 or image_N2E.shape[1] != 2:
        raise ShapeError(
            f"pictures {image_N2E.shape} and captions {caption_N2E.shape} must both be [N, 2, E]"
        )
    _check_vectors(image_N2E, caption_N2E)
    score_Nic = _dot_float64("nie,nce->nic", image_N2E, caption_N2E)
    first_N, second_N = score_Nic[:, 0, 0], score_Nic[:, 1, 1]
    # Named by index: of picture 0 with caption 1, and of picture 1 with caption 0.
    cross01_N, cross10_N = score_Nic[:, 0, 1], score_Nic[:, 1, 0]
    return WinogroundResult(
        text_N=(first_N > cross01_N) & (second_N > cross10_N),
        image_N=(first_N > cross10_N) & (second_N > cross01_N),
    )


def _dot_float64(indices: str, left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float64]:
    # In double precision the products are exact, so that captions tie when they are equal and not when they are near.
    product: NDArray[np.float64] = np.einsum(indices, left, right, dtype=np.float64)
    return product


def _check_vectors(*vectors: NDArray[np.float32]) -> None:
    if not len(vectors[0]):
        raise DataError("a choice over 0 samples is undefined; the data set is empty")
    if not all(np.isfinite(array.sum()) for array in vectors):
        raise DataError("vectors hold NaN or infinity; the model that made them diverged")
