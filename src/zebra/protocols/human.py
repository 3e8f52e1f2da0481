"""People's answers in, the paper's table of people and the difficulty of each class out (CLIP §4, Table 2, Fig. 16).

Answers are a CSV file with the columns person, image, answer, shots: the picture's id, a class name or `?` for "I don't
know", and how many examples of each class the person was shown before. In "guesses" those who don't know are left
out; in the rest not to know is an answer, and a wrong one.
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
    """What one person said of one picture."""

    person: str
    image_id: str
    label: int | None
    """Class index; None: "I don't know"."""
    shots: int
    """Examples of each class that the person had seen."""


@dataclass(frozen=True, slots=True)
class HumanAccuracy:
    """A row of Table 2: mean accuracy per class, four ways, with intervals over pictures for these people."""

    num_people: int
    num_answers: int
    accuracy: Score
    majority_accuracy: Score | None
    """Of the most frequent answer to each picture; None if all pictures are tied."""
    accuracy_on_guesses: Score | None
    """Of answers other than "I don't know"; None if nobody guessed."""
    majority_accuracy_on_guesses: Score | None
    num_ties: int
    """Pictures left out of `majority`, since two answers are equally frequent."""
    num_ties_on_guesses: int


@dataclass(frozen=True, slots=True)
class ClassDifficulty:
    """Accuracy of people and of a model on each class, the hardest for people first."""

    classnames: tuple[str, ...]
    human_scores: tuple[Score, ...]
    model_scores: tuple[Score, ...]
    correlation: Score | None
    """Pearson's r over classes with its 95 % interval; None with fewer than four classes, or all equally hard."""


def read_answers(path: Path, classnames: Sequence[str], labels: Mapping[str, int]) -> tuple[HumanAnswer, ...]:
    """Read a file of answers.

    Args:
        path: The CSV file; UTF-8, with a header.
        classnames: One for each class index.
        labels: Picture id → class index; every picture that may be named.

    Raises:
        DataError: The file cannot be read; or a line, which the message names, has other columns, an unknown picture
            or class, no person, a number of shots that is none, or a second answer of a person to a picture.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the answers {path} cannot be read: {error}") from error
    index = {name: number for number, name in enumerate(classnames)}
    first: dict[tuple[str, str, int], int] = {}
    answers: list[HumanAnswer] = []
    rows = csv.reader(text.splitlines(keepends=True), strict=True)
    try:
        header = next(rows, [])
        if tuple(header) != ANSWER_COLUMNS:
            raise DataError(
                f"{path}:1: the header must be {','.join(ANSWER_COLUMNS)}, not {','.join(header)!r}"
            )
        for row in rows:
            where = f"{path}:{rows.line_num}"
            answer = _parse_answer(row, index, labels, where)
            key = (answer.person, answer.image_id, answer.shots)
            if key in first:
                raise DataError(
                    f"{where}: {answer.person!r} has answered {answer.image_id!r} with {answer.shots} shots in line "
                    f"{first[key]} already; keep the answer that counts and delete the other line"
                )
            first[key] = rows.line_num
            answers.append(answer)
    except csv.Error as error:
        raise DataError(
            f"{path}:{rows.line_num}: {error}; each line is {','.join(ANSWER_COLUMNS)}"
        ) from error
    return tuple(answers)


def _parse_answer(
    row: Sequence[str], label_by_name: Mapping[str, int], labels: Mapping[str, int], where: str
) -> HumanAnswer:
    if len(row) != len(ANSWER_COLUMNS):
        raise DataError(f"{where}: {len(row)} columns; each line is {','.join(ANSWER_COLUMNS)}")
    person, image, said, shots = row
    if not person.strip():
        raise DataError(f"{where}: the answer has no person; give everyone a name, or a number")
    if image not in labels:
        raise DataError(f"{where}: no picture {image!r} in the data set.{suggest_name(image, labels)[:200]}")
    if said != UNKNOWN_ANSWER and said not in label_by_name:
        raise DataError(
            f"{where}: no class {said!r}, nor {UNKNOWN_ANSWER} for not knowing.{suggest_name(said, label_by_name)[:200]}"
        )
    if not (shots.isascii() and shots.isdecimal()):
        raise DataError(f"{where}: shots must be a number from 0 on, not {shots!r}")
    return HumanAnswer(person, image, None if said == UNKNOWN_ANSWER else label_by_name[said], int(shots))


def append_answer(path: Path, answer: HumanAnswer, classnames: Sequence[str]) -> None:
    """Add one line to a file of answers, with a header if it is new; a killed process keeps it."""
    said = UNKNOWN_ANSWER if answer.label is None else classnames[answer.label]
    new = not path.exists() or path.stat().st_size == 0
    unfinished = not new and not path.read_bytes().endswith(b"\n")  # as editors leave a last line
    with path.open("a", encoding="utf-8", newline="") as file:
        file.write("\n" if unfinished else "")
        writer = csv.writer(file, lineterminator="\n")
        if new:
            writer.writerow(ANSWER_COLUMNS)
        writer.writerow((answer.person, answer.image_id, said, answer.shots))


def evaluate_humans(
    answers: Sequence[HumanAnswer], labels: Mapping[str, int], shots: int, seed: int = 0
) -> HumanAccuracy:
    """Compute a row of Table 2 from the answers given after a number of shots.

    Answers of all people are pooled before the mean over classes; classes that nobody was asked about do not count.

    Raises:
        DataError: There is no answer after so many shots.
    """
    answers = [answer for answer in answers if answer.shots == shots]
    if not answers:
        raise DataError(f"no answers with {shots} shots; record some with `zebra human --shots {shots}`")
    guesses = [answer for answer in answers if answer.label is not None]
    vote, ties = _vote_by_majority(answers)
    guess_vote, guess_ties = _vote_by_majority(guesses)
    accuracy = _average_class_accuracy(answers, labels, seed)
    assert accuracy is not None
    return HumanAccuracy(
        num_people=len({answer.person for answer in answers}),
        num_answers=len(answers),
        accuracy=accuracy,
        majority_accuracy=_average_class_accuracy(vote, labels, seed),
        accuracy_on_guesses=_average_class_accuracy(guesses, labels, seed),
        majority_accuracy_on_guesses=_average_class_accuracy(guess_vote, labels, seed),
        num_ties=ties,
        num_ties_on_guesses=guess_ties,
    )


def compare_class_difficulty(
    answers: Sequence[HumanAnswer],
    labels: Mapping[str, int],
    is_correct: Mapping[str, bool],
    classnames: Sequence[str],
    shots: int,
    seed: int = 0,
) -> ClassDifficulty:
    """Compare how hard each class is for people and for a model, on the pictures that people were asked about.

    Args:
        answers: Of any number of people.
        labels: Picture id → class index.
        is_correct: Picture id → whether the model classified it correctly.
        classnames: One for each class index.
        shots: Which of the answers to take.
        seed: Of the bootstrap over pictures.

    Raises:
        DataError: There is no answer after so many shots, or the model has not seen a picture that people have.
    """
    answers = [answer for answer in answers if answer.shots == shots]
    if not answers:
        raise DataError(f"no answers with {shots} shots; record some with `zebra human --shots {shots}`")
    if unseen := [answer.image_id for answer in answers if answer.image_id not in is_correct]:
        raise DataError(
            f"the model has no outcome for {unseen[0]!r}, which people were asked about; evaluate it on the same set"
        )
    rows = []
    for label in sorted({labels[answer.image_id] for answer in answers}):
        asked = [answer for answer in answers if labels[answer.image_id] == label]
        images = {answer.image_id for answer in asked}
        score = _average_class_accuracy(asked, labels, seed)
        assert score is not None
        rows.append(
            (classnames[label], score, proportion(sum(is_correct[image] for image in images), len(images)))
        )
    rows.sort(key=lambda row: row[1].value)
    names, theirs, its = zip(*rows, strict=True)
    return ClassDifficulty(names, theirs, its, _correlate(theirs, its))


def _correlate(human_scores: Sequence[Score], model_scores: Sequence[Score]) -> Score | None:
    x_C, y_C = [score.value for score in human_scores], [score.value for score in model_scores]
    if len(x_C) < 4 or np.ptp(x_C) == 0 or np.ptp(y_C) == 0:
        return None
    found = pearsonr(x_C, y_C)
    interval = found.confidence_interval(0.95)
    return Score(float(found.statistic), float(interval.low), float(interval.high), len(x_C))


def _vote_by_majority(answers: Sequence[HumanAnswer]) -> tuple[list[HumanAnswer], int]:
    """Return the most frequent answer to each picture, and how many pictures have none for a tie."""
    votes: dict[str, dict[int | None, int]] = {}
    for answer in answers:
        counts = votes.setdefault(answer.image_id, {})
        counts[answer.label] = counts.get(answer.label, 0) + 1
    elected = []
    for image, counts in votes.items():
        most = max(counts.values())
        leaders = [said for said, count in counts.items() if count == most]
        if len(leaders) == 1:
            elected.append(HumanAnswer("majority", image, leaders[0], 0))
    return elected, len(votes) - len(elected)


def _average_class_accuracy(
    answers: Sequence[HumanAnswer], labels: Mapping[str, int], seed: int
) -> Score | None:
    """Average the accuracy of each class, with a bootstrap interval over pictures; None without answers.

    Pictures are drawn, not answers: what several people say of one picture is no independent evidence.
    """
    if not answers:
        return None
    images = {
        image: number for number, image in enumerate(dict.fromkeys(answer.image_id for answer in answers))
    }
    classes = {
        label: number for number, label in enumerate(sorted({labels[answer.image_id] for answer in answers}))
    }
    right_NC = np.zeros((len(images), len(classes)))
    asked_NC = np.zeros_like(right_NC)
    for answer in answers:
        place = images[answer.image_id], classes[labels[answer.image_id]]
        asked_NC[place] += 1
        right_NC[place] += answer.label == labels[answer.image_id]
    n = len(images)
    value = float(_average_over_classes(np.ones((1, n)), right_NC, asked_NC)[0])
    if not 0 < value < 1:  # no resample would differ, though another picture might
        return proportion(round(value * n), n)
    weight_BN = _draw_resamples(n, seed)
    low, high = np.percentile(_average_over_classes(weight_BN, right_NC, asked_NC), [2.5, 97.5])
    return Score(value, min(float(low), value), max(float(high), value), n)


def _draw_resamples(n: int, seed: int) -> NDArray[np.float64]:
    """Draw n of n pictures B times: how often each was drawn, [B, n]."""
    drawn_BN = np.random.default_rng(seed).integers(n, size=(_NUM_RESAMPLES, n))
    # Counted all at once: `multinomial` takes nine times as long for a hundred pictures.
    place_BN = drawn_BN + n * np.arange(_NUM_RESAMPLES)[:, None]
    return (
        np.bincount(place_BN.ravel(), minlength=_NUM_RESAMPLES * n)
        .reshape(_NUM_RESAMPLES, n)
        .astype(np.float64)
    )


def _average_over_classes(
    weight_BN: NDArray[np.float64], correct_NC: NDArray[np.float64], answered_NC: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the mean over classes for each of B weightings of the pictures; a class without weight does not count."""
    right_BC, asked_BC = weight_BN @ correct_NC, weight_BN @ answered_NC
    share_BC = np.divide(right_BC, asked_BC, out=np.zeros_like(right_BC), where=asked_BC > 0)
    means: NDArray[np.float64] = share_BC.sum(axis=1) / (asked_BC > 0).sum(axis=1)
    return means
