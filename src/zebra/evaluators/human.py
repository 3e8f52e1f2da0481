"""The quiz for people: questions, and comparison with a model (CLIP §4)."""

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from zebra.data.benchmarks.clip_benchmark import NUM_SHARDS_FILENAME, read_classification
from zebra.data.benchmarks.tasks import ClassificationBenchmark
from zebra.errors import DataError
from zebra.protocols.human import ClassDifficulty, HumanAccuracy, HumanAnswer, compare_class_difficulty, evaluate_humans
from zebra.protocols.metrics import mean_per_class_accuracy
from zebra.values import Record, Score


class QuizDataset:
    """A labeled dataset for a quiz: its questions, their order for each person, and the examples shown before."""

    def __init__(self, path: Path) -> None:
        """Load the test split of a CLIP_benchmark folder and read its labels.

        Raises:
            DataError: The dataset is incomplete or damaged.
        """
        self.path = path
        self.benchmark = read_classification(path)
        self.ids, self._label_N = _read_ids_and_labels(self.benchmark)
        self.labels: Mapping[str, int] = dict(zip(self.ids, self._label_N, strict=True))
        """Image id → class index."""
        self.has_train_split = (path / "train" / NUM_SHARDS_FILENAME).is_file()
        """Whether examples come from the training split, so that all test images can be questions."""

    @property
    def name(self) -> str:
        """Name of the dataset."""
        return self.benchmark.name

    @property
    def classnames(self) -> tuple[str, ...]:
        """Names of the C classes; the index is the label."""
        return self.benchmark.classnames

    @cached_property
    def example_benchmark(self) -> ClassificationBenchmark:
        """The split that provides the examples."""
        return read_classification(self.path, "train") if self.has_train_split else self.benchmark

    @cached_property
    def _example_positions(self) -> list[list[int]]:
        """Positions of each class in `example_benchmark`."""
        label_N = _read_ids_and_labels(self.example_benchmark)[1] if self.has_train_split else self._label_N
        positions_by_label: dict[int, list[int]] = defaultdict(list)
        for position, label in enumerate(label_N):
            positions_by_label[label].append(position)
        return [positions_by_label[label] for label in range(len(self.classnames))]

    @property
    def max_shots(self) -> int:
        """Largest number of examples per class that leaves one image of each class as a question."""
        return max(0, min(map(len, self._example_positions)) - (not self.has_train_split))

    def sample_examples(self, shots: int, seed: int = 0) -> tuple[tuple[int, ...], ...]:
        """Return the positions of the examples of each class in `example_benchmark`, equal for all persons.

        The examples of fewer shots are the first ones of more shots.

        Raises:
            DataError: A class has too few images.
        """
        if not shots:
            return ()
        num_questions = 0 if self.has_train_split else 1
        for name, positions in zip(self.classnames, self._example_positions, strict=True):
            if len(positions) < shots + num_questions:
                raise DataError(
                    f"the class {name!r} has {len(positions)} images in {self.example_benchmark.name}; {shots} shots "
                    f"need {shots + num_questions}{', one of them as a question' if num_questions else ''}. Lower "
                    "--shots."
                )
        generator = random.Random(seed)
        return tuple(
            tuple(generator.sample(positions, len(positions))[:shots]) for positions in self._example_positions
        )

    def question_order(self, person: str, shots: int = 0, seed: int = 0) -> tuple[int, ...]:
        """Return the positions of a person's questions, in a random order of that person.

        Raises:
            DataError: A class has too few images for the examples.
        """
        examples = self.sample_examples(shots, seed)
        shown = set() if self.has_train_split else {position for positions in examples for position in positions}
        order = list(range(len(self.ids)))
        random.Random(f"{seed} {person}").shuffle(order)
        return tuple(position for position in order if position not in shown)


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


def _read_ids_and_labels(benchmark: ClassificationBenchmark) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Read the ids and labels of all images."""
    records = [benchmark.source.read(position) for position in range(len(benchmark.source))]
    return tuple(record.id for record in records), tuple(_require_label(record) for record in records)


def _require_label(record: Record) -> int:
    if record.label is None:
        raise DataError(f"{record.id} has no label. A quiz needs a labeled dataset.")
    return record.label
