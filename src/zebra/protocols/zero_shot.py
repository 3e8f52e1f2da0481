"""Zero-shot classification (CLIP §3.1): image vectors and a class head in, predictions and scores out."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zebra.errors import DataError, ShapeError
from zebra.protocols.metrics import (
    confusion_matrix,
    mean_average_precision,
    mean_per_class_accuracy,
    proportion,
    roc_auc,
    top_k_classes,
)
from zebra.values import Embeddings, Score

ROWS_PER_BLOCK = 2048
"""Images scored at once, so that memory does not grow with the data set."""


@dataclass(frozen=True, slots=True)
class ClassificationResult:
    """The outcome on a set whose images have one label each."""

    ranked_NK: NDArray[np.int64]
    """Class indices, best first, the top 5 (or all, if there are fewer classes)."""
    label_N: NDArray[np.int64]
    num_classes: int
    margin_N: NDArray[np.float32] | None = None
    """Of two classes: how far the second is ahead of the first."""

    @property
    def correct_N(self) -> NDArray[np.bool_]:
        """Whether the best class is the true one."""
        correct: NDArray[np.bool_] = self.ranked_NK[:, 0] == self.label_N
        return correct

    @property
    def correct_top5_N(self) -> NDArray[np.bool_]:
        """Whether the true class is among the best five."""
        hit: NDArray[np.bool_] = (self.ranked_NK == self.label_N[:, None]).any(axis=1)
        return hit

    def scores(self) -> dict[str, Score]:
        """Return top1, top5 (with more than five classes), the mean per class, and ROC-AUC for two classes.

        The area needs images of both classes; without one of them it is left out.
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
        """Return the mean of top-1 and top-5, by which Kinetics is scored.

        Each end of the interval is the mean of the two: right if the two rise and fall as one, else too wide.
        """
        n = len(self.label_N)
        one, five = (proportion(int(hit_N.sum()), n) for hit_N in (self.correct_N, self.correct_top5_N))
        return Score((one.value + five.value) / 2, (one.low + five.low) / 2, (one.high + five.high) / 2, n)

    def confusion_matrix(self) -> NDArray[np.int64]:
        """Count [C, C]: rows are true classes, columns predicted ones."""
        return confusion_matrix(self.ranked_NK[:, 0], self.label_N, self.num_classes)


@dataclass(frozen=True, slots=True)
class MultilabelResult:
    """The outcome on a set whose images show several classes."""

    score_NC: NDArray[np.float32]
    """Cosine similarities."""
    label_NC: NDArray[np.bool_]

    @property
    def is_absent_C(self) -> NDArray[np.bool_]:
        """Classes that no image shows: they have no average precision and stay out of the mean.

        Differs: CLIP_benchmark counts each of them as 0.
        """
        return np.logical_not(self.label_NC.any(axis=0))

    def scores(self) -> dict[str, Score]:
        """Return the mean average precision, as the area under the curve and by the 11 points of VOC 2007."""
        return {
            "map": mean_average_precision(self.score_NC, self.label_NC),
            "map11": mean_average_precision(self.score_NC, self.label_NC, num_points=11),
        }


def classify_zero_shot(images: Embeddings, class_CE: NDArray[np.float32]) -> ClassificationResult:
    """Rank the classes of every image by cosine similarity; ties go to the class named first.

    Raises:
        DataError: The images carry no labels or labels beyond the classes, there are fewer than two classes, or
            vectors hold NaN or infinity.
        ShapeError: The head is of another size than the vectors.
    """
    if images.labels is None:
        raise DataError("zero-shot accuracy needs labelled images")
    classes = len(class_CE)
    if classes < 2:
        raise DataError(
            f"with {classes} class every answer is right and says nothing; name at least two classes"
        )
    _check_vectors(images, class_CE)
    _check_labels(images, classes)
    n, kept = len(images.vectors), min(5, classes)
    ranked_NK = np.empty((n, kept), dtype=np.int64)
    margin_N = np.empty(n, dtype=np.float32) if classes == 2 else None
    for start in range(0, n, ROWS_PER_BLOCK):
        block = slice(start, start + ROWS_PER_BLOCK)
        score_BC = images.vectors[block] @ class_CE.T
        ranked_NK[block] = top_k_classes(score_BC, kept)
        if margin_N is not None:
            margin_N[block] = score_BC[:, 1] - score_BC[:, 0]
    return ClassificationResult(
        ranked_NK=ranked_NK, label_N=images.labels, num_classes=classes, margin_N=margin_N
    )


def score_zero_shot_multilabel(
    images: Embeddings, label_NC: NDArray[np.bool_], class_CE: NDArray[np.float32]
) -> MultilabelResult:
    """Score every class in every image by cosine similarity.

    Raises:
        DataError: Vectors hold NaN or infinity, or the truth is not of yes and no.
        ShapeError: The truth has other than one row per image and one column per class, or the head is of another
            size than the vectors.
    """
    if label_NC.dtype != np.bool_:
        raise DataError(
            f"the truth must say of every class whether it is in the image, as bool [N, C], not {label_NC.dtype}; "
            "decide first what becomes of 'difficult' ones"
        )
    if label_NC.shape != (len(images.vectors), len(class_CE)):
        raise ShapeError(
            f"the truth {label_NC.shape} must be [N, C] for {len(images.vectors)} images and {len(class_CE)} classes"
        )
    _check_vectors(images, class_CE)
    return MultilabelResult(score_NC=images.vectors @ class_CE.T, label_NC=label_NC)


def _check_vectors(images: Embeddings, class_CE: NDArray[np.float32]) -> None:
    if images.vectors.shape[1] != class_CE.shape[1]:
        raise ShapeError(
            f"image vectors {images.vectors.shape} and class vectors {class_CE.shape} differ in E; "
            "encode both with one model"
        )
    # Any NaN or infinity reaches the sum, and no array of bools is needed to see it.
    if not (np.isfinite(class_CE.sum()) and np.isfinite(images.vectors.sum())):
        raise DataError("vectors hold NaN or infinity; the model that made them diverged")


def _check_labels(images: Embeddings, num_classes: int) -> None:
    if images.labels is None or not len(images.labels):
        return
    outside = np.flatnonzero((images.labels < 0) | (images.labels >= num_classes))
    if len(outside):
        first = outside[0]
        raise DataError(
            f"{images.ids[first]} has label {images.labels[first]}, one of {len(outside)} outside the "
            f"{num_classes} classes (0 to {num_classes - 1}); the class names are of another set"
        )
