"""Comparison of people with a model on the images of a quiz (CLIP §4)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from zebra.protocols.human import ClassDifficulty, HumanAccuracy, HumanAnswer, compare_class_difficulty, evaluate_humans
from zebra.protocols.metrics import mean_per_class_accuracy
from zebra.values import Score


@dataclass(frozen=True, slots=True)
class HumanModelComparison:
    """Humans and a model on the same images, for one number of shots."""

    shots: int
    human: HumanAccuracy
    model_accuracy: Score
    """Mean per-class accuracy of the model."""
    difficulty: ClassDifficulty


def compare_humans_with_model(
    answers: Sequence[HumanAnswer], labels: Mapping[str, int], is_correct: Mapping[str, bool], classnames: Sequence[str]
) -> tuple[HumanModelComparison, ...]:
    """Compare human answers with a model on the same images, for each number of shots (Table 2, Fig. 16).

    Args:
        answers: Answers of any number of people.
        labels: Image id → class index.
        is_correct: Image id → whether the model classified it correctly.
        classnames: Names of the classes.

    Raises:
        DataError: The model was not evaluated on an image of the quiz.
    """
    comparisons = []
    for shots in sorted({answer.shots for answer in answers}):
        # It raises if an image is missing, so the look-ups below succeed.
        difficulty = compare_class_difficulty(answers, labels, is_correct, classnames, shots)
        image_ids = sorted({answer.image_id for answer in answers if answer.shots == shots})
        model_accuracy = mean_per_class_accuracy(
            np.array([is_correct[id] for id in image_ids]), np.array([labels[id] for id in image_ids])
        )
        human_accuracy = evaluate_humans(answers, labels, shots)
        comparisons.append(HumanModelComparison(shots, human_accuracy, model_accuracy, difficulty))
    return tuple(comparisons)


def accepts_class_numbers(classnames: Sequence[str]) -> bool:
    """Return whether answers may be class numbers: no class name is a number itself."""
    return not any(name.isdecimal() for name in classnames)
