"""Compositionality: matching images with captions that differ only in a detail.

SugarCrepe (Hsieh et al. 2023): one image, a true and a false caption. Winoground (Thrush et al. 2022): two images and
two captions with the same words. Ties count as wrong.
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
    """Choices between a true and a false caption; chance is 1/2."""

    correct_N: NDArray[np.bool_]
    category_N: tuple[str, ...]
    """Type of change that makes the caption false: swap_obj, replace_att, …"""

    def scores(self) -> dict[str, Score]:
        """Return the accuracy of every category, in order of first occurrence, and of all as "accuracy"."""
        category_N = np.array(self.category_N)
        scores = {}
        for category in dict.fromkeys(self.category_N):
            correct = self.correct_N[category_N == category]
            scores[category] = proportion(int(correct.sum()), len(correct))
        return scores | {"accuracy": proportion(int(self.correct_N.sum()), len(self.correct_N))}


@dataclass(frozen=True, slots=True)
class WinogroundResult:
    """Choices between two images and two captions; chance is 1/4 for text and image, 1/6 for the group."""

    text_N: NDArray[np.bool_]
    """Whether both images match their own caption better."""
    image_N: NDArray[np.bool_]
    """Whether both captions match their own image better."""

    @property
    def group_N(self) -> NDArray[np.bool_]:
        """Whether all four choices are correct."""
        return self.text_N & self.image_N

    def scores(self) -> dict[str, Score]:
        """Return the text, image and group score."""
        correct_by_score = {"text": self.text_N, "image": self.image_N, "group": self.group_N}
        return {name: proportion(int(correct_N.sum()), len(correct_N)) for name, correct_N in correct_by_score.items()}


def evaluate_sugarcrepe(
    image_NE: NDArray[np.float32],
    positive_NE: NDArray[np.float32],
    negative_NE: NDArray[np.float32],
    categories: Sequence[str],
) -> SugarCrepeResult:
    """Evaluate whether each image is more similar to its true than to its false caption.

    Raises:
        DataError: There are no images, not one category per image, a category named "accuracy", or vectors with NaN.
        ShapeError: The vectors differ in shape.
    """
    if not image_NE.shape == positive_NE.shape == negative_NE.shape:
        raise ShapeError(
            f"images {image_NE.shape}, true {positive_NE.shape} and false captions {negative_NE.shape} must all be "
            "[N, E]"
        )
    if len(categories) != len(image_NE) or "accuracy" in categories:
        raise DataError(
            f"{len(categories)} categories for {len(image_NE)} images. Pass one for each, none named 'accuracy'."
        )
    _check_vectors(image_NE, positive_NE, negative_NE)
    correct_N = _dot_float64("ne,ne->n", image_NE, positive_NE) > _dot_float64("ne,ne->n", image_NE, negative_NE)
    return SugarCrepeResult(correct_N, tuple(categories))


def evaluate_winoground(image_N2E: NDArray[np.float32], caption_N2E: NDArray[np.float32]) -> WinogroundResult:
    """Evaluate whether two images and two captions match; image i belongs to caption i.

    Raises:
        DataError: There are no samples, or vectors contain NaN.
        ShapeError: Images and captions are not both [N, 2, E].
    """
    if image_N2E.shape != caption_N2E.shape or image_N2E.ndim != 3 or image_N2E.shape[1] != 2:
        raise ShapeError(f"images {image_N2E.shape} and captions {caption_N2E.shape} must both be [N, 2, E]")
    _check_vectors(image_N2E, caption_N2E)
    score_Nic = _dot_float64("nie,nce->nic", image_N2E, caption_N2E)
    first_N, second_N = score_Nic[:, 0, 0], score_Nic[:, 1, 1]
    # cross01 is image 0 with caption 1, cross10 is image 1 with caption 0.
    cross01_N, cross10_N = score_Nic[:, 0, 1], score_Nic[:, 1, 0]
    return WinogroundResult(
        text_N=(first_N > cross01_N) & (second_N > cross10_N), image_N=(first_N > cross10_N) & (second_N > cross01_N)
    )


def _dot_float64(indices: str, left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float64]:
    # float64 makes the products exact, so captions tie only if their vectors are equal.
    product: NDArray[np.float64] = np.einsum(indices, left, right, dtype=np.float64)
    return product


def _check_vectors(*vectors: NDArray[np.float32]) -> None:
    if not len(vectors[0]):
        raise DataError("cannot evaluate compositionality on 0 samples: the dataset is empty")
    if not all(np.isfinite(array.sum()) for array in vectors):
        raise DataError("image or caption vectors contain NaN or infinity. The model has diverged.")
