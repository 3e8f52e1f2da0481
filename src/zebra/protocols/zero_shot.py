"""Zero-shot classification of image vectors with class vectors (CLIP §3.1)."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from zebra.errors import DataError, ShapeError
from zebra.protocols.metrics import (
    class_probabilities,
    confusion_matrix,
    mean_average_precision,
    mean_of_fractions,
    mean_per_class_accuracy,
    proportion,
    roc_auc,
    top_k_classes,
)
from zebra.values import Embeddings, Score

ROWS_PER_BLOCK = 2048
"""Images per block, so that memory does not grow with the dataset."""


@dataclass(frozen=True, slots=True)
class ClassificationResult:
    """Predictions on a dataset with one label per image."""

    ranked_NK: NDArray[np.int64]
    """Class indices, highest score first: the top 5, or all if there are fewer classes."""
    label_N: NDArray[np.int64]
    num_classes: int
    margin_N: NDArray[np.float32] | None = None
    """With two classes: score of the second minus score of the first."""
    probability_N2: NDArray[np.float32] | None = None
    """Probabilities of the highest-ranked class and of the true class."""

    @property
    def correct_N(self) -> NDArray[np.bool_]:
        """Whether the highest-ranked class is the true one."""
        is_correct_N: NDArray[np.bool_] = self.ranked_NK[:, 0] == self.label_N
        return is_correct_N

    @property
    def correct_top5_N(self) -> NDArray[np.bool_]:
        """Whether the true class is among the top 5."""
        is_correct_N: NDArray[np.bool_] = (self.ranked_NK == self.label_N[:, None]).any(axis=1)
        return is_correct_N

    def scores(self) -> dict[str, Score]:
        """Return top1, top5 (with more than five classes), mean_per_class, and roc_auc for two classes.

        ROC-AUC is left out if one of the two classes has no image.
        """
        n = len(self.label_N)
        scores = {"top1": proportion(int(self.correct_N.sum()), n)}
        if self.num_classes > 5:
            scores["top5"] = proportion(int(self.correct_top5_N.sum()), n)
        scores["mean_per_class"] = mean_per_class_accuracy(self.correct_N, self.label_N)
        if self.margin_N is not None and len(np.unique(self.label_N)) == 2:
            scores["roc_auc"] = roc_auc(self.margin_N, self.label_N == 1)
        return scores

    def mean_top1_top5(self) -> Score:
        """Return the mean of top-1 and top-5 accuracy, the metric of Kinetics."""
        return mean_of_fractions((self.correct_N + self.correct_top5_N.astype(np.float64)) / 2)

    def confusion_matrix(self) -> NDArray[np.int64]:
        """Return the counts [C, C]: rows are true classes, columns predicted classes."""
        return confusion_matrix(self.ranked_NK[:, 0], self.label_N, self.num_classes)


@dataclass(frozen=True, slots=True)
class MultilabelResult:
    """Scores on a dataset with several labels per image."""

    score_NC: NDArray[np.float32]
    """Cosine similarities."""
    label_NC: NDArray[np.bool_]

    @property
    def is_absent_C(self) -> NDArray[np.bool_]:
        """Whether no image has the class; such classes have no average precision and are left out of the mean.

        Differs: CLIP_benchmark counts each of them as 0.
        """
        return np.logical_not(self.label_NC.any(axis=0))

    def scores(self) -> dict[str, Score]:
        """Return mean average precision: area under the curve (map) and 11 points as in VOC 2007 (map11)."""
        return {
            "map": mean_average_precision(self.score_NC, self.label_NC),
            "map11": mean_average_precision(self.score_NC, self.label_NC, num_points=11),
        }


def accept_labels(result: ClassificationResult, right_labels: Sequence[Collection[int]]) -> ClassificationResult:
    """Return a result in which the best-ranked right label of each image is its label.

    An image whose right labels are all below the top 5 keeps its label.

    Args:
        result: Predictions, with one label per image.
        right_labels: All right labels of each image.
    """
    is_right_NK = np.array(
        [[label in right for label in ranked] for ranked, right in zip(result.ranked_NK, right_labels, strict=True)]
    )
    best_N = result.ranked_NK[np.arange(len(is_right_NK)), is_right_NK.argmax(axis=1)]
    label_N = np.where(is_right_NK.any(axis=1), best_N, result.label_N)
    probability_N2 = result.probability_N2
    if probability_N2 is not None:
        is_first_N = label_N == result.ranked_NK[:, 0]
        probability_N2 = np.stack(
            [probability_N2[:, 0], np.where(is_first_N, probability_N2[:, 0], probability_N2[:, 1])], axis=1
        )
    return replace(result, label_N=label_N, probability_N2=probability_N2)


def classify_zero_shot(
    images: Embeddings, class_CE: NDArray[np.float32], *, scale: float | None = None, bias: float | None = None
) -> ClassificationResult:
    """Rank the classes for every image by cosine similarity; of equal scores, the class with the lower index wins.

    Classes with equal vectors, such as two with one name, have exactly equal scores.

    Args:
        images: Labeled images.
        class_CE: One unit vector per class.
        scale: Factor of the cosine similarities in the logits; None computes no probabilities.
        bias: Bias of the logits of a model of the sigmoid loss, which makes probabilities sigmoids.

    Raises:
        DataError: The images have no labels or labels outside the classes, there are fewer than two classes, or
            vectors contain NaN or infinity.
        ShapeError: Image and class vectors differ in dimension.
    """
    if images.labels is None:
        raise DataError("zero-shot accuracy needs labeled images; Embeddings.labels is None")
    num_classes = len(class_CE)
    if num_classes < 2:
        raise DataError(f"classification needs at least two classes; got {num_classes}")
    _check_vectors(images, class_CE)
    _check_labels(images, num_classes)
    n, k = len(images.vectors), min(5, num_classes)
    ranked_NK = np.empty((n, k), dtype=np.int64)
    margin_N = np.empty(n, dtype=np.float32) if num_classes == 2 else None
    probability_N2 = None if scale is None else np.empty((n, 2), dtype=np.float32)
    for start in range(0, n, ROWS_PER_BLOCK):
        block = slice(start, start + ROWS_PER_BLOCK)
        score_BC = cosines_to_classes(images.vectors[block], class_CE)
        ranked_NK[block] = top_k_classes(score_BC, k)
        if margin_N is not None:
            margin_N[block] = score_BC[:, 1] - score_BC[:, 0]
        if probability_N2 is not None:
            class_B2 = np.stack([ranked_NK[block, 0], images.labels[block]], axis=1)
            logit_BC = np.float32(scale) * score_BC + np.float32(bias or 0)
            probability_N2[block] = class_probabilities(logit_BC, class_B2, is_sigmoid=bias is not None)
    return ClassificationResult(ranked_NK, images.labels, num_classes, margin_N, probability_N2)


def cosines_to_classes(image_BE: NDArray[np.float32], class_CE: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the cosines [B, C] of images and classes; classes with equal vectors have exactly equal ones."""
    # A matrix product may round equal columns differently.
    return (image_BE @ class_CE.T)[:, find_equal_classes(class_CE)]


def find_equal_classes(class_CE: NDArray[np.float32]) -> list[int]:
    """Return for each class the index of the first class with the same vector.

    >>> find_equal_classes(np.array([[1, 0], [0, 1], [1, 0]], dtype=np.float32))
    [0, 1, 0]
    """
    first_index: dict[bytes, int] = {}
    return [first_index.setdefault(vector_E.tobytes(), index) for index, vector_E in enumerate(class_CE)]


def score_zero_shot_multilabel(
    images: Embeddings, label_NC: NDArray[np.bool_], class_CE: NDArray[np.float32]
) -> MultilabelResult:
    """Compute the cosine similarity of every image with every class.

    Raises:
        DataError: Vectors contain NaN or infinity, or the labels are not bool.
        ShapeError: The labels are not [N, C], or image and class vectors differ in dimension.
    """
    if label_NC.dtype != np.bool_:
        raise DataError(
            f"multilabel labels must be bool [N, C]; got {label_NC.dtype}. Decide first whether 'difficult' objects "
            "count as present."
        )
    if label_NC.shape != (len(images.vectors), len(class_CE)):
        raise ShapeError(
            f"labels of shape {label_NC.shape} for {len(images.vectors)} images and {len(class_CE)} classes. Pass [N, "
            "C]."
        )
    _check_vectors(images, class_CE)
    return MultilabelResult(score_NC=images.vectors @ class_CE.T, label_NC=label_NC)


def _check_vectors(images: Embeddings, class_CE: NDArray[np.float32]) -> None:
    if images.vectors.shape[1] != class_CE.shape[1]:
        raise ShapeError(
            f"image vectors {images.vectors.shape} and class vectors {class_CE.shape} differ in dimension. "
            "Encode both with the same model."
        )
    # NaN and infinity propagate to the sum, which needs no temporary array.
    if not (np.isfinite(class_CE.sum()) and np.isfinite(images.vectors.sum())):
        raise DataError("image or class vectors contain NaN or infinity. The model has diverged.")


def _check_labels(images: Embeddings, num_classes: int) -> None:
    if images.labels is None or not len(images.labels):
        return
    outside = np.flatnonzero((images.labels < 0) | (images.labels >= num_classes))
    if len(outside):
        first = outside[0]
        raise DataError(
            f"{len(outside)} labels are outside the {num_classes} classes (0 to {num_classes - 1}), such as "
            f"{images.labels[first]} of {images.ids[first]}. Use the class names of this dataset."
        )
