"""The questions and examples of the quiz for people (CLIP §4)."""

import random
from collections import defaultdict
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from zebra.data.benchmarks.clip_benchmark import NUM_SHARDS_FILENAME, read_classification
from zebra.data.benchmarks.tasks import ClassificationBenchmark
from zebra.errors import DataError
from zebra.values import Record


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


def _read_ids_and_labels(benchmark: ClassificationBenchmark) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Read the ids and labels of all images."""
    records = [benchmark.source.read(position) for position in range(len(benchmark.source))]
    return tuple(record.id for record in records), tuple(_require_label(record) for record in records)


def _require_label(record: Record) -> int:
    if record.label is None:
        raise DataError(f"{record.id} has no label. A quiz needs a labeled dataset.")
    return record.label
