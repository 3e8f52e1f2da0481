"""Zero-shot classification (CLIP §3.1): image vectors and a class head in, predictions and scores out."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zebra.errors import DataError, ShapeError
from zebra.evaluate.metrics import confusion, mean_per_class, proportion
from zebra.values import Embeddings, Score

BLOCK = 8192
"""Images scored at once, so that memory does not grow with the data set."""


@dataclass(frozen=True, slots=True)
class ZeroShot:
    """The outcome on one set."""

    ranked_NK: NDArray[np.int64]
    """Class indices, best first, the top 5 (or all, if there are fewer classes)."""
    label_N: NDArray[np.int64]
    classes: int

    @property
    def correct_N(self) -> NDArray[np.bool_]:
        """Whether the best class is the true one."""
        correct: NDArray[np.bool_] = self.ranked_NK[:, 0] == self.label_N
        return correct

    def scores(self) -> dict[str, Score]:
        """Return top1, top5 (with more than five classes) and the mean per class."""
        n = len(self.label_N)
        scores = {"top1": proportion(int(self.correct_N.sum()), n)}
        if self.classes > 5:
            scores["top5"] = proportion(int((self.ranked_NK == self.label_N[:, None]).any(axis=1).sum()), n)
        return scores | {"mean_per_class": mean_per_class(self.correct_N, self.label_N)}

    def confusion(self) -> NDArray[np.int64]:
        """Count [C, C]: rows are true classes, columns predicted ones."""
        return confusion(self.ranked_NK[:, 0], self.label_N, self.classes)


def zero_shot(images: Embeddings, class_CE: NDArray[np.float32]) -> ZeroShot:
    """Rank the classes of every image by cosine similarity; ties go to the class named first.

    Raises:
        DataError: The images carry no labels, or vectors hold NaN.
        ShapeError: The head is of another size than the vectors.
    """
    if images.labels is None:
        raise DataError("zero-shot accuracy needs labelled images")
    if images.vectors.shape[1] != class_CE.shape[1]:
        raise ShapeError(
            f"image vectors {images.vectors.shape} and class vectors {class_CE.shape} differ in E; "
            "encode both with one model"
        )
    if np.isnan(class_CE).any() or np.isnan(images.vectors).any():
        raise DataError("vectors hold NaN; the model that made them diverged")
    kept = min(5, len(class_CE))
    ranked = [
        np.argsort(-(images.vectors[start : start + BLOCK] @ class_CE.T), axis=1, kind="stable")[:, :kept]
        for start in range(0, len(images.vectors), BLOCK)
    ]
    ranked_NK = np.concatenate(ranked) if ranked else np.zeros((0, kept), dtype=np.int64)
    return ZeroShot(ranked_NK=ranked_NK, label_N=images.labels, classes=len(class_CE))
