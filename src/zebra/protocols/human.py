"""Human accuracy and class difficulty (CLIP §4, Table 2, Fig. 16).

Answers are a CSV file with the columns person, image, answer and shots: the image id, a class name or `?` for "I don't
know", and the number of examples of each class that the person saw first. "On guesses" leaves out "I don't know"; all
other numbers count it as a wrong answer.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import pearsonr

from zebra.errors import DataError, suggest_name
from zebra.protocols.metrics import proportion
from zebra.values import Score

ANSWER_COLUMNS = ("person", "image", "answer", "shots")
UNKNOWN_ANSWER = "?"
"""The answer "I don't know"."""
_NUM_RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class HumanAnswer:
    """The answer of one person to one image."""

    person: str
    image_id: str
    label: int | None
    """Class index; None: "I don't know"."""
    shots: int
    """Examples of each class that the person saw first."""


@dataclass(frozen=True, slots=True)
class HumanAccuracy:
    """A row of Table 2: accuracies averaged over classes, with bootstrap intervals over images."""

    num_people: int
    num_answers: int
    accuracy: Score
    majority_accuracy: Score | None
    """Accuracy of the most frequent answer to each image; None if all images are tied."""
    accuracy_on_guesses: Score | None
    """Accuracy of answers other than "I don't know"; None if there are none."""
    majority_accuracy_on_guesses: Score | None
    num_ties: int
    """Images left out of `majority_accuracy` because two answers are equally frequent."""
    num_ties_on_guesses: int


@dataclass(frozen=True, slots=True)
class ClassDifficulty:
    """Accuracy of humans and of a model on each class, lowest human accuracy first."""

    classnames: tuple[str, ...]
    human_scores: tuple[Score, ...]
    model_scores: tuple[Score, ...]
    correlation: Score | None
    """Pearson's r over classes with its 95% interval; None with fewer than four classes or equal accuracies."""


def read_answers(path: Path, classnames: Sequence[str], labels: Mapping[str, int]) -> tuple[HumanAnswer, ...]:
    """Read a file of answers.

    Args:
        path: The CSV file; UTF-8, with a header.
        classnames: Class names; the index is the label.
        labels: Image id → label, for all images of the dataset.

    Raises:
        DataError: The file cannot be read, or a line has wrong columns, an unknown image or class, no person, an
            invalid number of shots, or a second answer of a person to an image. The message names the line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the answers {path}: {error}") from error
    label_by_name = {name: label for label, name in enumerate(classnames)}
    line_by_key: dict[tuple[str, str, int], int] = {}
    answers: list[HumanAnswer] = []
    rows = csv.reader(text.splitlines(keepends=True), strict=True)
    try:
        header = next(rows, [])
        if tuple(header) != ANSWER_COLUMNS:
            raise DataError(f"{path}:1: the header must be {','.join(ANSWER_COLUMNS)}; got {','.join(header)!r}")
        for row in rows:
            where = f"{path}:{rows.line_num}"
            answer = _parse_answer(row, label_by_name, labels, where)
            key = (answer.person, answer.image_id, answer.shots)
            if key in line_by_key:
                raise DataError(
                    f"{where}: second answer of {answer.person!r} to {answer.image_id!r} with {answer.shots} shots; "
                    f"the first is in line {line_by_key[key]}. Delete one of the two lines."
                )
            line_by_key[key] = rows.line_num
            answers.append(answer)
    except csv.Error as error:
        raise DataError(f"{path}:{rows.line_num}: {error}. Each line must be {','.join(ANSWER_COLUMNS)}.") from error
    return tuple(answers)


def _parse_answer(
    row: Sequence[str], label_by_name: Mapping[str, int], labels: Mapping[str, int], where: str
) -> HumanAnswer:
    if len(row) != len(ANSWER_COLUMNS):
        raise DataError(f"{where}: {len(row)} columns. Each line must be {','.join(ANSWER_COLUMNS)}.")
    person, image_id, answer, shots = row
    if not person.strip():
        raise DataError(f"{where}: the answer has no person. Give each person a unique name or number.")
    if image_id not in labels:
        raise DataError(f"{where}: no image {image_id!r} in the dataset.{suggest_name(image_id, labels)[:200]}")
    if answer != UNKNOWN_ANSWER and answer not in label_by_name:
        raise DataError(
            f"{where}: {answer!r} is neither a class nor {UNKNOWN_ANSWER}.{suggest_name(answer, label_by_name)[:200]}"
        )
    if not (shots.isascii() and shots.isdecimal()):
        raise DataError(f"{where}: shots must be an integer of at least 0; got {shots!r}")
    label = None if answer == UNKNOWN_ANSWER else label_by_name[answer]
    return HumanAnswer(person, image_id, label, int(shots))


def append_answer(path: Path, answer: HumanAnswer, classnames: Sequence[str]) -> None:
    """Append one line to a file of answers, with a header if the file is new."""
    text = UNKNOWN_ANSWER if answer.label is None else classnames[answer.label]
    is_new = not path.exists() or path.stat().st_size == 0
    needs_newline = not is_new and not path.read_bytes().endswith(b"\n")  # some editors omit the last newline
    with path.open("a", encoding="utf-8", newline="") as file:
        file.write("\n" if needs_newline else "")
        writer = csv.writer(file, lineterminator="\n")
        if is_new:
            writer.writerow(ANSWER_COLUMNS)
        writer.writerow((answer.person, answer.image_id, text, answer.shots))


def evaluate_humans(
    answers: Sequence[HumanAnswer], labels: Mapping[str, int], shots: int, seed: int = 0
) -> HumanAccuracy:
    """Compute a row of Table 2 from the answers with the given number of shots.

    The answers of all people are pooled before averaging over classes. Classes without an answer do not count.

    Raises:
        DataError: There are no answers with this number of shots.
    """
    answers = [answer for answer in answers if answer.shots == shots]
    if not answers:
        raise DataError(f"there are no answers with {shots} shots. Record some with `zebra human --shots {shots}`.")
    guesses = [answer for answer in answers if answer.label is not None]
    majority, num_ties = _vote_by_majority(answers)
    guess_majority, num_guess_ties = _vote_by_majority(guesses)
    accuracy = _average_class_accuracy(answers, labels, seed)
    assert accuracy is not None
    return HumanAccuracy(
        num_people=len({answer.person for answer in answers}),
        num_answers=len(answers),
        accuracy=accuracy,
        majority_accuracy=_average_class_accuracy(majority, labels, seed),
        accuracy_on_guesses=_average_class_accuracy(guesses, labels, seed),
        majority_accuracy_on_guesses=_average_class_accuracy(guess_majority, labels, seed),
        num_ties=num_ties,
        num_ties_on_guesses=num_guess_ties,
    )


def compare_class_difficulty(
    answers: Sequence[HumanAnswer],
    labels: Mapping[str, int],
    is_correct: Mapping[str, bool],
    classnames: Sequence[str],
    shots: int,
    seed: int = 0,
) -> ClassDifficulty:
    """Compare the accuracy of humans and of a model on each class, on the images that people answered.

    Args:
        answers: Answers of any number of people.
        labels: Image id → label.
        is_correct: Image id → whether the model classified it correctly.
        classnames: Class names; the index is the label.
        shots: Use only answers with this number of shots.
        seed: Seed of the bootstrap over images.

    Raises:
        DataError: There are no answers with this number of shots, or the model has no prediction for an image.
    """
    answers = [answer for answer in answers if answer.shots == shots]
    if not answers:
        raise DataError(f"there are no answers with {shots} shots. Record some with `zebra human --shots {shots}`.")
    if missing := [answer.image_id for answer in answers if answer.image_id not in is_correct]:
        raise DataError(
            f"the model has no prediction for {missing[0]!r}, which people answered. Evaluate it on the same dataset."
        )
    rows = []
    for label in sorted({labels[answer.image_id] for answer in answers}):
        class_answers = [answer for answer in answers if labels[answer.image_id] == label]
        image_ids = {answer.image_id for answer in class_answers}
        score = _average_class_accuracy(class_answers, labels, seed)
        assert score is not None
        rows.append((classnames[label], score, proportion(sum(is_correct[id] for id in image_ids), len(image_ids))))
    rows.sort(key=lambda row: row[1].value)
    names, human_scores, model_scores = zip(*rows, strict=True)
    return ClassDifficulty(names, human_scores, model_scores, _correlate(human_scores, model_scores))


def _correlate(human_scores: Sequence[Score], model_scores: Sequence[Score]) -> Score | None:
    x_C, y_C = [score.value for score in human_scores], [score.value for score in model_scores]
    if len(x_C) < 4 or np.ptp(x_C) == 0 or np.ptp(y_C) == 0:
        return None
    result = pearsonr(x_C, y_C)
    interval = result.confidence_interval(0.95)
    return Score(float(result.statistic), float(interval.low), float(interval.high), len(x_C))


def _vote_by_majority(answers: Sequence[HumanAnswer]) -> tuple[list[HumanAnswer], int]:
    """Return the most frequent answer to each image, and the number of images with a tie."""
    counts_by_image: dict[str, dict[int | None, int]] = {}
    for answer in answers:
        counts = counts_by_image.setdefault(answer.image_id, {})
        counts[answer.label] = counts.get(answer.label, 0) + 1
    majority = []
    for image_id, counts in counts_by_image.items():
        max_count = max(counts.values())
        leaders = [label for label, count in counts.items() if count == max_count]
        if len(leaders) == 1:
            majority.append(HumanAnswer("majority", image_id, leaders[0], 0))
    return majority, len(counts_by_image) - len(majority)


def _average_class_accuracy(answers: Sequence[HumanAnswer], labels: Mapping[str, int], seed: int) -> Score | None:
    """Average accuracy over classes, with a bootstrap interval over images; None without answers.

    The bootstrap resamples images and not answers, because answers to the same image are not independent.
    """
    if not answers:
        return None
    row_by_image = {image_id: row for row, image_id in enumerate(dict.fromkeys(answer.image_id for answer in answers))}
    column_by_label = {
        label: column for column, label in enumerate(sorted({labels[answer.image_id] for answer in answers}))
    }
    correct_NC = np.zeros((len(row_by_image), len(column_by_label)))
    answered_NC = np.zeros_like(correct_NC)
    for answer in answers:
        cell = row_by_image[answer.image_id], column_by_label[labels[answer.image_id]]
        answered_NC[cell] += 1
        correct_NC[cell] += answer.label == labels[answer.image_id]
    n = len(row_by_image)
    value = float(_average_over_classes(np.ones((1, n)), correct_NC, answered_NC)[0])
    if not 0 < value < 1:  # all resamples are equal, so the bootstrap has no width
        return proportion(round(value * n), n)
    weight_BN = _draw_resamples(n, seed)
    low, high = np.percentile(_average_over_classes(weight_BN, correct_NC, answered_NC), [2.5, 97.5])
    return Score(value, min(float(low), value), max(float(high), value), n)


def _draw_resamples(n: int, seed: int) -> NDArray[np.float64]:
    """Resample n images B times; return the count of each image in each resample, [B, n]."""
    drawn_BN = np.random.default_rng(seed).integers(n, size=(_NUM_RESAMPLES, n))
    # One bincount over all resamples; `multinomial` takes nine times as long for a hundred images.
    bin_BN = drawn_BN + n * np.arange(_NUM_RESAMPLES)[:, None]
    return np.bincount(bin_BN.ravel(), minlength=_NUM_RESAMPLES * n).reshape(_NUM_RESAMPLES, n).astype(np.float64)


def _average_over_classes(
    weight_BN: NDArray[np.float64], correct_NC: NDArray[np.float64], answered_NC: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the mean over classes [B] for B weightings of the images; classes without weight do not count."""
    correct_BC, answered_BC = weight_BN @ correct_NC, weight_BN @ answered_NC
    accuracy_BC = np.divide(correct_BC, answered_BC, out=np.zeros_like(correct_BC), where=answered_BC > 0)
    means: NDArray[np.float64] = accuracy_BC.sum(axis=1) / (answered_BC > 0).sum(axis=1)
    return means
