"""`zebra human`: a labelled set in; its pictures as questions to a person, in a seeded order, and the answers kept."""

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from zebra.data.benchmarks.clip_benchmark import NUM_SHARDS_FILENAME, read_classification
from zebra.data.benchmarks.tasks import ClassificationBenchmark
from zebra.errors import ConfigError, DataError, suggest_name
from zebra.images.decode import decode_image
from zebra.protocols.human import (
    UNKNOWN_ANSWER,
    ClassDifficulty,
    HumanAccuracy,
    HumanAnswer,
    append_answer,
    compare_class_difficulty,
    evaluate_humans,
    read_answers,
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
                    f"the class {name!r} has {len(positions)} pictures in {self.example_benchmark.name}; {shots} shots need "
                    f"{shots + left}{', one of them to be asked' if left else ''}"
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
class QuizSession:
    """What a person is still to be asked, and where the answers go."""

    dataset: QuizDataset
    questions: tuple[int, ...]
    """Positions in the set, in the order to ask."""
    num_answered: int
    """Questions that this person has answered with as many shots in earlier sittings."""
    examples: tuple[tuple[Image.Image, ...], ...]
    """For each class its pictures to be shown before; empty without shots."""
    answers_path: Path
    person: str
    shots: int

    @property
    def classnames(self) -> tuple[str, ...]:
        """What can be answered."""
        return self.dataset.classnames

    @property
    def accepts_numbers(self) -> bool:
        """Whether classes can be named by number: not where their names are numbers."""
        return accepts_class_numbers(self.classnames)

    def read_question(self, position: int) -> Record:
        """Read one question."""
        return self.dataset.benchmark.source.read(position)

    def save_answer(self, record: Record, label: int | None) -> None:
        """Write down an answer: a class index, or None for "I don't know"."""
        append_answer(
            self.answers_path, HumanAnswer(self.person, record.id, label, self.shots), self.classnames
        )

    def evaluate_answers(self) -> dict[int, HumanAccuracy]:
        """Return shots → the row of Table 2, over everyone in the file of answers."""
        answers = read_answers(self.answers_path, self.classnames, self.dataset.labels)
        return {
            shots: evaluate_humans(answers, self.dataset.labels, shots)
            for shots in sorted({answer.shots for answer in answers})
        }


def open_quiz(dataset: Path, answers_path: Path, person: str, shots: int = 0, seed: int = 0) -> QuizSession:
    """Open a quiz where this person left it.

    Each person has an order of their own. The examples are the same for all: of the split `train` where the set has
    one, else of `test`, and then they are not asked.

    Args:
        dataset: A CLIP_benchmark folder; its split `test` is asked.
        answers_path: The CSV file of answers, new or to be added to, also by others.
        person: A name or number that tells people apart.
        shots: Examples of each class to show before; the paper has 0, 1 and 2.
        seed: Of the order and the examples.

    Raises:
        ConfigError: No person, or a negative number of shots.
        DataError: The set or the file of answers is not whole, or a class has too few pictures for the shots.
    """
    if not person.strip():
        raise ConfigError("--person is empty; give everyone a name, or a number, that tells them apart")
    if shots < 0:
        raise ConfigError(f"--shots {shots}: show 0 or more examples of each class; the paper has 0, 1 and 2")
    answers_path.parent.mkdir(parents=True, exist_ok=True)  # rather than fail at the first answer
    asked = QuizDataset(dataset)
    kept = answers_path.exists() and answers_path.stat().st_size
    answers = read_answers(answers_path, asked.classnames, asked.labels) if kept else ()
    done = {answer.image_id for answer in answers if (answer.person, answer.shots) == (person, shots)}
    return QuizSession(
        dataset=asked,
        questions=tuple(
            position
            for position in asked.question_order(person, shots, seed)
            if asked.ids[position] not in done
        ),
        num_answered=len(done),
        examples=tuple(
            tuple(_load_image(asked.example_benchmark, position) for position in positions)
            for positions in asked.sample_examples(shots, seed)
        ),
        answers_path=answers_path,
        person=person,
        shots=shots,
    )


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


def parse_class_answer(text: str, classnames: Sequence[str]) -> int | None:
    """Return the class that a person means: by name, the beginning of one name alone, or number from 1; None for `?`.

    Numbers do not count where class names are numbers themselves.

    Raises:
        ConfigError: No class, or more than one, is meant.

    >>> parse_class_answer("ze", ["horse", "zebra"]), parse_class_answer("1", ["horse", "zebra"]), parse_class_answer("?", ["horse"])
    (1, 0, None)
    """
    text = text.strip()
    if text == UNKNOWN_ANSWER:
        return None
    names = [name.casefold() for name in classnames]
    if text.casefold() in names:
        return names.index(text.casefold())
    if accepts_class_numbers(classnames) and text.isdecimal() and 1 <= int(text) <= len(names):
        return int(text) - 1
    meant = [number for number, name in enumerate(names) if name.startswith(text.casefold())]
    if len(meant) == 1:
        return meant[0]
    if meant and text:
        several = ", ".join(classnames[number] for number in meant[:8])
        raise ConfigError(f"{text!r} may be {several}{', …' if len(meant) > 8 else ''}; write more of it")
    raise ConfigError(
        f"no class {text!r}; {UNKNOWN_ANSWER} if you don't know.{suggest_name(text, classnames)[:300]}"
    )


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


def _load_image(benchmark: ClassificationBenchmark, position: int) -> Image.Image:
    record = benchmark.source.read(position)
    return decode_image(record.image, record.id)
