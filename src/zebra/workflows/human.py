"""`zebra human`: a quiz in which one person labels images of a dataset (CLIP §4)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from zebra.config.human import HumanConfig
from zebra.data.benchmarks.tasks import ClassificationBenchmark
from zebra.errors import ConfigError, suggest_name
from zebra.evaluators.human import accepts_class_numbers
from zebra.evaluators.quiz_dataset import QuizDataset
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
    """Open questions of one person, and the file of answers."""

    dataset: QuizDataset
    questions: tuple[int, ...]
    """Indices of the images to ask, in order."""
    num_answered: int
    """Questions that this person answered in earlier sessions with the same number of shots."""
    examples: tuple[tuple[Image.Image, ...], ...]
    """Example images of each class, to show before the questions; empty without shots."""
    answers_path: Path
    person: str
    shots: int

    @property
    def classnames(self) -> tuple[str, ...]:
        """The possible answers."""
        return self.dataset.classnames

    @property
    def accepts_numbers(self) -> bool:
        """Whether an answer can be a class number; False if the class names are numbers."""
        return accepts_class_numbers(self.classnames)

    def read_question(self, position: int) -> Record:
        """Read the image of a question."""
        return self.dataset.benchmark.source.read(position)

    def save_answer(self, record: Record, label: int | None) -> None:
        """Append an answer to the file: a label, or None for "I don't know"."""
        append_answer(self.answers_path, HumanAnswer(self.person, record.id, label, self.shots), self.classnames)

    def evaluate_answers(self) -> dict[int, HumanAccuracy]:
        """Return shots → row of Table 2, for all people in the file of answers."""
        answers = read_answers(self.answers_path, self.classnames, self.dataset.labels)
        return {
            shots: evaluate_humans(answers, self.dataset.labels, shots)
            for shots in sorted({answer.shots for answer in answers})
        }


def run(config: HumanConfig) -> QuizSession:
    """Open a quiz, without the questions that this person has already answered.

    Each person has a different order of questions. The examples are the same for everyone. They are from the split
    `train` if the dataset has one, else from `test`; then they are not asked.

    Raises:
        DataError: The dataset or the file of answers is damaged, or a class has too few images for the shots.
    """
    answers_path = Path(config.out)
    answers_path.parent.mkdir(parents=True, exist_ok=True)  # fail now, not at the first answer
    dataset = QuizDataset(Path(config.dataset))
    has_answers = answers_path.exists() and answers_path.stat().st_size
    answers = read_answers(answers_path, dataset.classnames, dataset.labels) if has_answers else ()
    answered_ids = {
        answer.image_id for answer in answers if (answer.person, answer.shots) == (config.person, config.shots)
    }
    return QuizSession(
        dataset=dataset,
        questions=tuple(
            position
            for position in dataset.question_order(config.person, config.shots, config.seed)
            if dataset.ids[position] not in answered_ids
        ),
        num_answered=len(answered_ids),
        examples=tuple(
            tuple(_load_image(dataset.example_benchmark, position) for position in positions)
            for positions in dataset.sample_examples(config.shots, config.seed)
        ),
        answers_path=answers_path,
        person=config.person,
        shots=config.shots,
    )


def parse_class_answer(text: str, classnames: Sequence[str]) -> int | None:
    """Return the label of an answer: a class name, an unambiguous prefix, or a number from 1; None for `?`.

    Numbers are not accepted if class names are numbers.

    Raises:
        ConfigError: The answer matches no class, or more than one.

    >>> names = ["horse", "zebra"]
    >>> parse_class_answer("ze", names), parse_class_answer("1", names), parse_class_answer("?", names)
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
    matches = [label for label, name in enumerate(names) if name.startswith(text.casefold())]
    if len(matches) == 1:
        return matches[0]
    if matches and text:
        candidates = ", ".join(classnames[label] for label in matches[:8])
        more = ", …" if len(matches) > 8 else ""
        raise ConfigError(f"{text!r} is ambiguous: {candidates}{more}. Type more letters.")
    raise ConfigError(
        f"no class {text!r}. Type {UNKNOWN_ANSWER} if you don't know.{suggest_name(text, classnames)[:300]}"
    )


def _load_image(benchmark: ClassificationBenchmark, position: int) -> Image.Image:
    record = benchmark.source.read(position)
    return decode_image(record.image, record.id)
