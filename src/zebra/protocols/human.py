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

from zebra.errors import DataError, nearest
from zebra.protocols.metrics import proportion
from zebra.values import Score

COLUMNS = ("person", "image", "answer", "shots")
UNKNOWN = "?"
"""The answer "I don't know"."""
RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class Answer:
    """What one person said of one picture."""

    person: str
    image: str
    said: int | None
    """Class index; None: "I don't know"."""
    shots: int
    """Examples of each class that the person had seen."""


@dataclass(frozen=True, slots=True)
class People:
    """A row of Table 2: mean accuracy per class, four ways, with intervals over pictures for these people."""

    people: int
    answers: int
    accuracy: Score
    majority: Score | None
    """Of the most frequent answer to each picture; None if all pictures are tied."""
    on_guesses: Score | None
    """Of answers other than "I don't know"; None if nobody guessed."""
    majority_on_guesses: Score | None
    ties: int
    """Pictures left out of `majority`, since two answers are equally frequent."""
    ties_on_guesses: int


@dataclass(frozen=True, slots=True)
class Difficulty:
    """Accuracy of people and of a model on each class, the hardest for people first."""

    classes: tuple[str, ...]
    people: tuple[Score, ...]
    model: tuple[Score, ...]
    correlation: Score | None
    """Pearson's r over classes with its 95 % interval; None with fewer than four classes, or all equally hard."""


def read_answers(path: Path, classnames: Sequence[str], labels: Mapping[str, int]) -> tuple[Answer, ...]:
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
    answers: list[Answer] = []
    rows = csv.reader(text.splitlines(keepends=True), strict=True)
    try:
        header = next(rows, [])
        if tuple(header) != COLUMNS:
            raise DataError(f"{path}:1: the header must be {','.join(COLUMNS)}, not {','.join(header)!r}")
        for row in rows:
            where = f"{path}:{rows.line_num}"
            answer = _answer(row, index, labels, where)
            key = (answer.person, answer.image, answer.shots)
            if key in first:
                raise DataError(
                    f"{where}: {answer.person!r} has answered {answer.image!r} with {answer.shots} shots in line "
                    f"{first[key]} already; keep the answer that counts and delete the other line"
                )
            first[key] = rows.line_num
            answers.append(answer)
    except csv.Error as error:
        raise DataError(f"{path}:{rows.line_num}: {error}; each line is {','.join(COLUMNS)}") from error
    return tuple(answers)


def _answer(row: Sequence[str], index: Mapping[str, int], labels: Mapping[str, int], where: str) -> Answer:
    if len(row) != len(COLUMNS):
        raise DataError(f"{where}: {len(row)} columns; each line is {','.join(COLUMNS)}")
    person, image, said, shots = row
    if not person.strip():
        raise DataError(f"{where}: the answer has no person; give everyone a name, or a number")
    if image not in labels:
        raise DataError(f"{where}: no picture {image!r} in the data set.{nearest(image, labels)[:200]}")
    if said != UNKNOWN and said not in index:
        raise DataError(
            f"{where}: no class {said!r}, nor {UNKNOWN} for not knowing.{nearest(said, index)[:200]}"
        )
    if not (shots.isascii() and shots.isdecimal()):
        raise DataError(f"{where}: shots must be a number from 0 on, not {shots!r}")
    return Answer(person, image, None if said == UNKNOWN else index[said], int(shots))


def append_answer(path: Path, answer: Answer, classnames: Sequence[str]) -> None:
    """Add one line to a file of answers, with a header if it is new; a killed process keeps it."""
    said = UNKNOWN if answer.said is None else classnames[answer.said]
    new = not path.exists() or path.stat().st_size == 0
    unfinished = not new and not path.read_bytes().endswith(b"\n")  # as editors leave a last line
    with path.open("a", encoding="utf-8", newline="") as file:
        file.write("\n" if unfinished else "")
        writer = csv.writer(file, lineterminator="\n")
        if new:
            writer.writerow(COLUMNS)
        writer.writerow((answer.person, answer.image, said, answer.shots))


def people(answers: Sequence[Answer], labels: Mapping[str, int], shots: int, seed: int = 0) -> People:
    """Compute a row of Table 2 from the answers given after a number of shots.

    Answers of all people are pooled before the mean over classes; classes that nobody was asked about do not count.

    Raises:
        DataError: There is no answer after so many shots.
    """
    answers = [answer for answer in answers if answer.shots == shots]
    if not answers:
        raise DataError(f"no answers with {shots} shots; record some with `zebra human --shots {shots}`")
    guesses = [answer for answer in answers if answer.said is not None]
    vote, ties = _majority(answers)
    guess_vote, guess_ties = _majority(guesses)
    accuracy = _mean_per_class(answers, labels, seed)
    assert accuracy is not None
    return People(
        people=len({answer.person for answer in answers}),
        answers=len(answers),
        accuracy=accuracy,
        majority=_mean_per_class(vote, labels, seed),
        on_guesses=_mean_per_class(guesses, labels, seed),
        majority_on_guesses=_mean_per_class(guess_vote, labels, seed),
        ties=ties,
        ties_on_guesses=guess_ties,
    )


def difficulty(
    answers: Sequence[Answer],
    labels: Mapping[str, int],
    right: Mapping[str, bool],
    classnames: Sequence[str],
    shots: int,
    seed: int = 0,
) -> Difficulty:
    """Compare how hard each class is for people and for a model, on the pictures that people were asked about.

    Args:
        answers: Of any number of people.
        labels: Picture id → class index.
        right: Picture id → whether the model classified it correctly.
        classnames: One for each class index.
        shots: Which of the answers to take.
        seed: Of the bootstrap over pictures.

    Raises:
        DataError: There is no answer after so many shots, or the model has not seen a picture that people have.
    """
    answers = [answer for answer in answers if answer.shots == shots]
    if not answers:
        raise DataError(f"no answers with {shots} shots; record some with `zebra human --shots {shots}`")
    if unseen := [answer.image for answer in answers if answer.image not in right]:
        raise DataError(
            f"the model has no outcome for {unseen[0]!r}, which people were asked about; evaluate it on the same set"
        )
    rows = []
    for label in sorted({labels[answer.image] for answer in answers}):
        asked = [answer for answer in answers if labels[answer.image] == label]
        images = {answer.image for answer in asked}
        score = _mean_per_class(asked, labels, seed)
        assert score is not None
        rows.append(
            (classnames[label], score, proportion(sum(right[image] for image in images), len(images)))
        )
    rows.sort(key=lambda row: row[1].value)
    names, theirs, its = zip(*rows, strict=True)
    return Difficulty(names, theirs, its, _correlation(theirs, its))


def _correlation(people: Sequence[Score], model: Sequence[Score]) -> Score | None:
    x_C, y_C = [score.value for score in people], [score.value for score in model]
    if len(x_C) < 4 or np.ptp(x_C) == 0 or np.ptp(y_C) == 0:
        return None
    found = pearsonr(x_C, y_C)
    interval = found.confidence_interval(0.95)
    return Score(float(found.statistic), float(interval.low), float(interval.high), len(x_C))


def _majority(answers: Sequence[Answer]) -> tuple[list[Answer], int]:
    """Return the most frequent answer to each picture, and how many pictures have none for a tie."""
    votes: dict[str, dict[int | None, int]] = {}
    for answer in answers:
        counts = votes.setdefault(answer.image, {})
        counts[answer.said] = counts.get(answer.said, 0) + 1
    elected = []
    for image, counts in votes.items():
        most = max(counts.values())
        leaders = [said for said, count in counts.items() if count == most]
        if len(leaders) == 1:
            elected.append(Answer("majority", image, leaders[0], 0))
    return elected, len(votes) - len(elected)


def _mean_per_class(answers: Sequence[Answer], labels: Mapping[str, int], seed: int) -> Score | None:
    """Average the accuracy of each class, with a bootstrap interval over pictures; None without answers.

    Pictures are drawn, not answers: what several people say of one picture is no independent evidence.
    """
    if not answers:
        return None
    images = {image: number for number, image in enumerate(dict.fromkeys(answer.image for answer in answers))}
    classes = {
        label: number for number, label in enumerate(sorted({labels[answer.image] for answer in answers}))
    }
    right_NC = np.zeros((len(images), len(classes)))
    asked_NC = np.zeros_like(right_NC)
    for answer in answers:
        place = images[answer.image], classes[labels[answer.image]]
        asked_NC[place] += 1
        right_NC[place] += answer.said == labels[answer.image]
    n = len(images)
    value = float(_class_means(np.ones((1, n)), right_NC, asked_NC)[0])
    if not 0 < value < 1:  # no resample would differ, though another picture might
        return proportion(round(value * n), n)
    weight_BN = _resamples(n, seed)
    low, high = np.percentile(_class_means(weight_BN, right_NC, asked_NC), [2.5, 97.5])
    return Score(value, min(float(low), value), max(float(high), value), n)


def _resamples(n: int, seed: int) -> NDArray[np.float64]:
    """Draw n of n pictures B times: how often each was drawn, [B, n]."""
    drawn_BN = np.random.default_rng(seed).integers(n, size=(RESAMPLES, n))
    # Counted all at once: `multinomial` takes nine times as long for a hundred pictures.
    place_BN = drawn_BN + n * np.arange(RESAMPLES)[:, None]
    return np.bincount(place_BN.ravel(), minlength=RESAMPLES * n).reshape(RESAMPLES, n).astype(np.float64)


def _class_means(
    weight_BN: NDArray[np.float64], right_NC: NDArray[np.float64], asked_NC: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the mean over classes for each of B weightings of the pictures; a class without weight does not count."""
    right_BC, asked_BC = weight_BN @ right_NC, weight_BN @ asked_NC
    share_BC = np.divide(right_BC, asked_BC, out=np.zeros_like(right_BC), where=asked_BC > 0)
    means: NDArray[np.float64] = share_BC.sum(axis=1) / (asked_BC > 0).sum(axis=1)
    return means
