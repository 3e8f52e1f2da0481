"""Tests of accuracies per class and of predictions with class names."""

import numpy as np
import pytest

from zebra.evaluators.class_results import ClassResults, worst_errors
from zebra.evaluators.predictions import build_classification_predictions, build_multilabel_predictions
from zebra.protocols.zero_shot import ClassificationResult, MultilabelResult


def predict(label, predicted, classnames, probabilities=None):
    """Build predictions whose second-ranked class is always the next one."""
    first = np.array(predicted)
    ranked_NK = np.stack([first, (first + 1) % len(classnames)], axis=1)
    probability_N2 = None if probabilities is None else np.array(probabilities, dtype=np.float32)
    result = ClassificationResult(ranked_NK, np.array(label), len(classnames), None, probability_N2)
    return build_classification_predictions([f"{n}.png" for n in range(len(label))], result, classnames)


def test_predictions_have_class_names_beside_numbers_and_probabilities():
    table = predict([0, 1], [1, 1], ["cat", "dog"], [[0.75, 0.25], [0.5, 0.5]])
    assert table.to_pylist()[0] == {
        "id": "0.png",
        "label": 0,
        "label_name": "cat",
        "predicted_name": "dog",
        "ranked": [1, 0],
        "correct": False,
        "predicted_probability": 0.75,
        "label_probability": 0.25,
    }
    multilabel = MultilabelResult(np.eye(2, dtype=np.float32), np.array([[True, True], [False, False]]))
    names = build_multilabel_predictions(["a", "b"], multilabel, ["cat", "dog"])["label_names"].to_pylist()
    assert names == [["cat", "dog"], []]


def test_the_least_accurate_class_comes_first_with_what_it_is_taken_for():
    classes = ClassResults.from_predictions(predict([0, 0, 0, 1, 1, 2], [2, 2, 1, 1, 0, 2], ["cat", "dog", "pig"]))
    accuracies = classes.accuracies()
    assert [(entry.name, entry.accuracy.value, entry.accuracy.n) for entry in accuracies] == [
        ("cat", 0.0, 3),
        ("dog", 0.5, 2),
        ("pig", 1.0, 1),
    ]
    assert [entry.most_confused and entry.most_confused.predicted for entry in accuracies] == ["pig", "cat", None]
    first = classes.confused_pairs()[0]
    assert (first.label, first.predicted, first.count, first.num_images) == ("cat", "pig", 2, 3)


def test_a_class_without_images_appears_only_if_it_is_predicted():
    classes = ClassResults.from_predictions(predict([0, 0], [0, 3], ["cat", "dog", "pig", "ram"]))
    assert classes.names == ("cat", "ram")
    assert classes.counts_CC.tolist() == [[1, 1], [0, 0]]
    assert [entry.name for entry in classes.accuracies()] == ["cat"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["missile", "pig", "missile"], ("missile (0)", "pig", "missile (2)")),
        (["cat", "", "dog"], ("cat", "(1)", "dog")),
        (["cat", "Cat", "dog"], ("cat", "Cat", "dog")),
    ],
)
def test_equal_and_empty_names_are_told_apart_by_their_number(names, expected):
    assert ClassResults.from_predictions(predict([0, 1, 2], [0, 1, 2], names)).names == expected


def test_predictions_without_errors_have_no_confused_pair_and_no_worst_error():
    table = predict([0, 1], [0, 1], ["cat", "dog"], [[0.9, 0.9], [0.8, 0.8]])
    assert ClassResults.from_predictions(table).confused_pairs() == []
    assert worst_errors(table, 5) == []


def test_the_worst_errors_are_those_with_the_largest_ratio_of_probabilities():
    table = predict([0, 0, 0, 0], [1, 0, 1, 1], ["cat", "dog"], [[0.6, 0.4], [0.9, 0.9], [1.0, 0.0], [0.9, 0.1]])
    assert worst_errors(table, 2) == [2, 3]
    assert worst_errors(table.drop_columns(["label_probability"]), 2) == [0, 2]
    assert worst_errors(table.slice(2), 9) == [0, 1]
    assert ClassResults.from_predictions(table.slice(1, 2)).counts_CC.tolist() == [[1, 1], [0, 0]]
