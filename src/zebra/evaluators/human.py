"""Quiz for people: datasets, question order, and comparison with a model (CLIP §4)."""

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
from zebra.protocols.human import (
    ClassDifficulty,
    HumanAccuracy,
    HumanAnswer,
    compare_class_difficulty,
    evaluate_humans,
)
from zebra.protocols.metrics import mean_per_class_accuracy
from zebra.values import Record, Score


class QuizDataset:
    """A labelled set that people are asked about: who is asked what, in which order, after which examples."""

    def __init__(self, path: Path) -> None:
        """Open the split `test` of a CLIP_benchmark folder, and read its labels.

        Raises:
            DataError: The set is not whole.
        """
        self.path = path
        self.benchmark = read_classification(path)
        self.ids, self._label_N = _read_ids_and_labels(self.benchmark)
        self.labels: Mapping[str, int] = dict(zip(self.ids, self._label_N, strict=True))
        """Picture id → class index."""
        self.has_train_split = (path / "train" / NUM_SHARDS_FILENAME).is_file()
        """Whether examples are of a split of their own, so that every picture of `test` can be asked."""

    @property
    def name(self) -> str:
        """Of the folder."""
        return self.benchmark.name

    @property
    def classnames(self) -> tuple[str, ...]:
        """C names; the position is the label."""
        return self.benchmark.classnames

    @cached_property
    def example_benchmark(self) -> ClassificationBenchmark:
        """What examples are taken from."""
        return read_classification(self.path, "train") if self.has_train_split else self.benchmark

    @cached_property
    def _example_positions(self) -> list[list[int]]:
        """For each class its positions in the teacher."""
        label_N = _read_ids_and_labels(self.example_benchmark)[1] if self.has_train_split else self._label_N
        of_class: dict[int, list[int]] = defaultdict(list)
        for position, label in enumerate(label_N):
            of_class[label].append(position)
        return [of_class[label] for label in range(len(self.classnames))]

    @property
    def max_shots(self) -> int:
        """How many examples of each class can be shown so that one picture of it is left to be asked."""
        return max(0, min(map(len, self._example_positions)) - (not self.has_train_split))

    def sample_examples(self, shots: int, seed: int = 0) -> tuple[tuple[int, ...], ...]:
        """Choose for each class the positions of its examples in the teacher, the same for everyone.

        One shot shows the first of the two that two shots show.

        Raises:
            DataError: A class has too few pictures.
        """
        if not shots:
            return ()
        left = 0 if self.has_train_split else 1
        for name, positions in zip(self.classnames, self._example_positions, strict=True):
            if len(positions) < shots + left:
                raise DataError(
                    f"the class {name!r} has {len(positions)} pictures in {self.example_benchmark.name}; "
                    f"{shots} shots need {shots + left}{', one of them to be asked' if left else ''}"
                )
        generator = random.Random(seed)
        return tuple(
            tuple(generator.sample(positions, len(positions))[:shots])
            for positions in self._example_positions
        )

    def question_order(self, person: str, shots: int = 0, seed: int = 0) -> tuple[int, ...]:
        """Return the positions that a person is asked about, in an order of the person's own.

        Raises:
            DataError: A class has too few pictures for the examples.
        """
        chosen = self.sample_examples(shots, seed)
        shown = (
            set() if self.has_train_split else {position for positions in chosen for position in positions}
        )
        order = list(range(len(self.ids)))
        random.Random(f"{seed} {person}").shuffle(order)
        return tuple(position for position in order if position not in shown)


@dataclass(frozen=True, slots=True)
class HumanModelComparison:
    """People beside a model on the pictures that they were asked about, after so many shots."""

    shots: int
    human: HumanAccuracy
    model_accuracy: Score
    """Mean accuracy per class."""
    difficulty: ClassDifficulty


def compare_humans_with_model(
    answers: Sequence[HumanAnswer],
    labels: Mapping[str, int],
    is_correct: Mapping[str, bool],
    classnames: Sequence[str],
) -> tuple[HumanModelComparison, ...]:
    """Set answers beside a model's on the same pictures, for each number of shots (Table 2, Fig. 16).

    Args:
        answers: Of any number of people.
        labels: Picture id → class index.
        is_correct: Picture id → whether the model classified it correctly.
        classnames: One for each class index.

    Raises:
        DataError: The model has not seen a picture that people were asked about.
    """
    found = []
    for shots in sorted({answer.shots for answer in answers}):
        hardness = compare_class_difficulty(
            answers, labels, is_correct, classnames, shots
        )  # misses no picture, or raises
        asked = sorted({answer.image_id for answer in answers if answer.shots == shots})
        model = mean_per_class_accuracy(
            np.array([is_correct[image] for image in asked]), np.array([labels[image] for image in asked])
        )
        found.append(HumanModelComparison(shots, evaluate_humans(answers, labels, shots), model, hardness))
    return tuple(found)


def accepts_class_numbers(classnames: Sequence[str]) -> bool:
    """Say whether classes can be named by number."""
    return not any(name.isdecimal() for name in classnames)


def _read_ids_and_labels(benchmark: ClassificationBenchmark) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Read the ids and labels of all pictures."""
    records = [benchmark.source.read(position) for position in range(len(benchmark.source))]
    return tuple(record.id for record in records), tuple(_require_label(record) for record in records)


def _require_label(record: Record) -> int:
    if record.label is None:
        raise DataError(f"{record.id} has no label, so no answer to it is right; a quiz needs a labelled set")
    return record.label
