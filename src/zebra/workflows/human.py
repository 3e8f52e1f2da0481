"""`zebra human`: a labelled set in; its pictures as questions to a person, in a seeded order, and the answers kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from zebra.data.benchmarks.tasks import ClassificationBenchmark
from zebra.errors import ConfigError, suggest_name
from zebra.evaluators.human import QuizDataset, accepts_class_numbers
from zebra.images.decode import decode_image
from zebra.protocols.human import (
    UNKNOWN_ANSWER,
    HumanAccuracy,
    HumanAnswer,
    append_answer,
    evaluate_humans,
    read_answers,
)
from zebra.values import Record


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


def _load_image(benchmark: ClassificationBenchmark, position: int) -> Image.Image:
    record = benchmark.source.read(position)
    return decode_image(record.image, record.id)
