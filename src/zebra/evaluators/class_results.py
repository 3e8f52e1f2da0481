"""Accuracy per class and confused classes, from predictions."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from zebra.evaluators.results import TaskResult
from zebra.protocols.metrics import confusion_matrix, proportion
from zebra.values import Score


def has_classes(result: TaskResult) -> bool:
    """Return whether a result has predictions with one class per image, for `ClassResults` and `worst_errors`."""
    return result.predictions is not None and "predicted_name" in result.predictions.column_names


@dataclass(frozen=True, slots=True)
class ConfusedPair:
    """A class and one that its images are taken for."""

    label: str
    predicted: str
    count: int
    num_images: int
    """Number of images of the true class."""


@dataclass(frozen=True, slots=True)
class ClassAccuracy:
    """Accuracy on the images of one class."""

    name: str
    accuracy: Score
    most_confused: ConfusedPair | None
    """The most frequent wrong prediction; None if all predictions are right."""


@dataclass(frozen=True, slots=True)
class ClassResults:
    """Predicted classes of a dataset, by true class."""

    names: tuple[str, ...]
    """The C classes that occur as labels or predictions, in the order of the dataset; each name once."""
    counts_CC: NDArray[np.int64]
    """Confusion matrix: rows are true classes, columns predicted classes."""

    @classmethod
    def from_predictions(cls, predictions: pa.Table) -> "ClassResults":
        """Count the predictions that `build_classification_predictions` returned."""
        label_N, predicted_N = np.asarray(predictions["label"]), first_ranked(predictions)
        classes_C, index_2N = np.unique(np.stack([label_N, predicted_N]), return_inverse=True)
        index_2N = index_2N.reshape(2, -1)
        name_by_class = dict(zip(label_N.tolist(), predictions["label_name"].to_pylist(), strict=True))
        name_by_class |= dict(zip(predicted_N.tolist(), predictions["predicted_name"].to_pylist(), strict=True))
        names = [name_by_class[label] for label in classes_C.tolist()]
        repeats = Counter(names)
        names = [
            name if name.strip() and repeats[name] == 1 else f"{name} ({label})".strip()
            for name, label in zip(names, classes_C.tolist(), strict=True)
        ]
        return cls(tuple(names), confusion_matrix(index_2N[1], index_2N[0], len(names)))

    def accuracies(self) -> list[ClassAccuracy]:
        """Return the accuracy of each class that has images, lowest first."""
        most_confused: dict[str, ConfusedPair] = {}
        for pair in self.confused_pairs():
            most_confused.setdefault(pair.label, pair)
        accuracies = [
            ClassAccuracy(name, proportion(int(counts_C[index]), int(counts_C.sum())), most_confused.get(name))
            for index, (name, counts_C) in enumerate(zip(self.names, self.counts_CC, strict=True))
            if counts_C.any()
        ]
        return sorted(accuracies, key=lambda entry: entry.accuracy.value)

    def confused_pairs(self) -> list[ConfusedPair]:
        """Return all pairs of classes that were confused, most frequent first."""
        wrong_CC = self.counts_CC * ~np.eye(len(self.names), dtype=np.bool_)
        pairs = [
            ConfusedPair(self.names[label], self.names[predicted], int(wrong_CC[label, predicted]), int(counts_C.sum()))
            for label, counts_C in enumerate(self.counts_CC)
            for predicted in np.flatnonzero(wrong_CC[label])
        ]
        return sorted(pairs, key=lambda pair: (-pair.count, -pair.count / pair.num_images))


def first_ranked(predictions: pa.Table) -> NDArray[np.int64]:
    """Return the highest-ranked class of every row, [N]."""
    ranked = predictions["ranked"].combine_chunks()
    first_N: NDArray[np.int64] = np.asarray(ranked.values)[np.asarray(ranked.offsets)[:-1]]
    return first_N


def worst_errors(predictions: pa.Table, max_errors: int) -> list[int]:
    """Return the rows of the most confident errors: where the predicted class surpasses the true one the most.

    Rows are compared by the ratio of both probabilities. Predictions without probabilities have no such order, so
    their first errors are returned.
    """
    wrong = np.flatnonzero(~np.asarray(predictions["correct"]))
    if "label_probability" in predictions.column_names:
        predicted_N, label_N = (
            np.log(np.maximum(np.asarray(predictions[f"{name}_probability"]), np.finfo(np.float32).tiny))
            for name in ("predicted", "label")
        )
        wrong = wrong[np.argsort(label_N[wrong] - predicted_N[wrong], kind="stable")]
    rows: list[int] = wrong[:max_errors].tolist()
    return rows
