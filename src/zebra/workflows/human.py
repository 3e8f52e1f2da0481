"""`zebra human`: a labelled set in; its pictures as questions to a person, in a seeded order, and the answers kept."""

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from zebra.data.benchmarks.clip_benchmark import NUM_SHARDS, Benchmark, read_benchmark
from zebra.errors import ConfigError, DataError, nearest
from zebra.images.decode import decode
from zebra.protocols.human import (
    UNKNOWN,
    Answer,
    Difficulty,
    People,
    append_answer,
    difficulty,
    people,
    read_answers,
)
from zebra.protocols.metrics import mean_per_class
from zebra.values import Record, Score


class QuizSet:
    """A labelled set that people are asked about: who is asked what, in which order, after which examples."""

    def __init__(self, folder: Path) -> None:
        """Open the split `test` of a CLIP_benchmark folder, and read its labels.

        Raises:
            DataError: The set is not whole.
        """
        self.folder = folder
        self.benchmark = read_benchmark(folder)
        self.ids, self._label_N = _labelled(self.benchmark)
        self.labels: Mapping[str, int] = dict(zip(self.ids, self._label_N, strict=True))
        """Picture id → class index."""
        self.apart = (folder / "train" / NUM_SHARDS).is_file()
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
    def teacher(self) -> Benchmark:
        """What examples are taken from."""
        return read_benchmark(self.folder, "train") if self.apart else self.benchmark

    @cached_property
    def _taught(self) -> list[list[int]]:
        """For each class its positions in the teacher."""
        label_N = _labelled(self.teacher)[1] if self.apart else self._label_N
        of_class: dict[int, list[int]] = defaultdict(list)
        for position, label in enumerate(label_N):
            of_class[label].append(position)
        return [of_class[label] for label in range(len(self.classnames))]

    @property
    def most_shots(self) -> int:
        """How many examples of each class can be shown so that one picture of it is left to be asked."""
        return max(0, min(map(len, self._taught)) - (not self.apart))

    def examples(self, shots: int, seed: int = 0) -> tuple[tuple[int, ...], ...]:
        """Choose for each class the positions of its examples in the teacher, the same for everyone.

        One shot shows the first of the two that two shots show.

        Raises:
            DataError: A class has too few pictures.
        """
        if not shots:
            return ()
        left = 0 if self.apart else 1
        for name, positions in zip(self.classnames, self._taught, strict=True):
            if len(positions) < shots + left:
                raise DataError(
                    f"the class {name!r} has {len(positions)} pictures in {self.teacher.name}; {shots} shots need "
                    f"{shots + left}{', one of them to be asked' if left else ''}"
                )
        generator = random.Random(seed)
        return tuple(tuple(generator.sample(positions, len(positions))[:shots]) for positions in self._taught)

    def questions(self, person: str, shots: int = 0, seed: int = 0) -> tuple[int, ...]:
        """Return the positions that a person is asked about, in an order of the person's own.

        Raises:
            DataError: A class has too few pictures for the examples.
        """
        chosen = self.examples(shots, seed)
        shown = set() if self.apart else {position for positions in chosen for position in positions}
        order = list(range(len(self.ids)))
        random.Random(f"{seed} {person}").shuffle(order)
        return tuple(position for position in order if position not in shown)


@dataclass(frozen=True, slots=True)
class Quiz:
    """What a person is still to be asked, and where the answers go."""

    set: QuizSet
    questions: tuple[int, ...]
    """Positions in the set, in the order to ask."""
    answered: int
    """Questions that this person has answered with as many shots in earlier sittings."""
    examples: tuple[tuple[Image.Image, ...], ...]
    """For each class its pictures to be shown before; empty without shots."""
    out: Path
    person: str
    shots: int

    @property
    def classnames(self) -> tuple[str, ...]:
        """What can be answered."""
        return self.set.classnames

    @property
    def numbered(self) -> bool:
        """Whether classes can be named by number: not where their names are numbers."""
        return numbered(self.classnames)

    def picture(self, position: int) -> Record:
        """Read one question."""
        return self.set.benchmark.source.read(position)

    def keep(self, picture: Record, said: int | None) -> None:
        """Write down an answer: a class index, or None for "I don't know"."""
        append_answer(self.out, Answer(self.person, picture.id, said, self.shots), self.classnames)

    def table(self) -> dict[int, People]:
        """Return shots → the row of Table 2, over everyone in the file of answers."""
        answers = read_answers(self.out, self.classnames, self.set.labels)
        return {
            shots: people(answers, self.set.labels, shots)
            for shots in sorted({answer.shots for answer in answers})
        }


def open_quiz(dataset: Path, out: Path, person: str, shots: int = 0, seed: int = 0) -> Quiz:
    """Open a quiz where this person left it.

    Each person has an order of their own. The examples are the same for all: of the split `train` where the set has
    one, else of `test`, and then they are not asked.

    Args:
        dataset: A CLIP_benchmark folder; its split `test` is asked.
        out: The CSV file of answers, new or to be added to, also by others.
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
    out.parent.mkdir(parents=True, exist_ok=True)  # rather than fail at the first answer
    asked = QuizSet(dataset)
    kept = out.exists() and out.stat().st_size
    answers = read_answers(out, asked.classnames, asked.labels) if kept else ()
    done = {answer.image for answer in answers if (answer.person, answer.shots) == (person, shots)}
    return Quiz(
        set=asked,
        questions=tuple(
            position for position in asked.questions(person, shots, seed) if asked.ids[position] not in done
        ),
        answered=len(done),
        examples=tuple(
            tuple(_image(asked.teacher, position) for position in positions)
            for positions in asked.examples(shots, seed)
        ),
        out=out,
        person=person,
        shots=shots,
    )


@dataclass(frozen=True, slots=True)
class Standing:
    """People beside a model on the pictures that they were asked about, after so many shots."""

    shots: int
    people: People
    model: Score
    """Mean accuracy per class."""
    difficulty: Difficulty


def standings(
    answers: Sequence[Answer],
    labels: Mapping[str, int],
    right: Mapping[str, bool],
    classnames: Sequence[str],
) -> tuple[Standing, ...]:
    """Set answers beside a model's on the same pictures, for each number of shots (Table 2, Fig. 16).

    Args:
        answers: Of any number of people.
        labels: Picture id → class index.
        right: Picture id → whether the model classified it correctly.
        classnames: One for each class index.

    Raises:
        DataError: The model has not seen a picture that people were asked about.
    """
    found = []
    for shots in sorted({answer.shots for answer in answers}):
        hardness = difficulty(answers, labels, right, classnames, shots)  # misses no picture, or raises
        asked = sorted({answer.image for answer in answers if answer.shots == shots})
        model = mean_per_class(
            np.array([right[image] for image in asked]), np.array([labels[image] for image in asked])
        )
        found.append(Standing(shots, people(answers, labels, shots), model, hardness))
    return tuple(found)


def understand(words: str, classnames: Sequence[str]) -> int | None:
    """Return the class that a person means: by name, the beginning of one name alone, or number from 1; None for `?`.

    Numbers do not count where class names are numbers themselves.

    Raises:
        ConfigError: No class, or more than one, is meant.

    >>> understand("ze", ["horse", "zebra"]), understand("1", ["horse", "zebra"]), understand("?", ["horse"])
    (1, 0, None)
    """
    words = words.strip()
    if words == UNKNOWN:
        return None
    names = [name.casefold() for name in classnames]
    if words.casefold() in names:
        return names.index(words.casefold())
    if numbered(classnames) and words.isdecimal() and 1 <= int(words) <= len(names):
        return int(words) - 1
    meant = [number for number, name in enumerate(names) if name.startswith(words.casefold())]
    if len(meant) == 1:
        return meant[0]
    if meant and words:
        several = ", ".join(classnames[number] for number in meant[:8])
        raise ConfigError(f"{words!r} may be {several}{', …' if len(meant) > 8 else ''}; write more of it")
    raise ConfigError(f"no class {words!r}; {UNKNOWN} if you don't know.{nearest(words, classnames)[:300]}")


def numbered(classnames: Sequence[str]) -> bool:
    """Say whether classes can be named by number."""
    return not any(name.isdecimal() for name in classnames)


def _labelled(benchmark: Benchmark) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Read the ids and labels of all pictures."""
    records = [benchmark.source.read(position) for position in range(len(benchmark.source))]
    return tuple(record.id for record in records), tuple(_label(record) for record in records)


def _label(record: Record) -> int:
    if record.label is None:
        raise DataError(f"{record.id} has no label, so no answer to it is right; a quiz needs a labelled set")
    return record.label


def _image(benchmark: Benchmark, position: int) -> Image.Image:
    record = benchmark.source.read(position)
    return decode(record.image, record.id)
