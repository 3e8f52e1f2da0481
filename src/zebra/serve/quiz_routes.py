"""The people-against-the-model test over HTTP (CLIP §4): questions out, a person's score beside the model's back.

Nothing is kept here: the answers lie with who gave them, and come along when they are to be scored.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Annotated, Literal
from urllib.parse import quote

from fastapi import APIRouter, BackgroundTasks, Response
from pydantic import BaseModel, Field

from zebra.data.benchmarks.clip_benchmark import Benchmark
from zebra.errors import ConfigError, DataError, ZebraError, nearest
from zebra.evaluators.embeddings import embed_source
from zebra.evaluators.zero_shot import head, prompts_for
from zebra.pretrained.bundle import Bundle
from zebra.protocols.human import UNKNOWN, Answer
from zebra.protocols.zero_shot import zero_shot
from zebra.serve.errors import Refusal
from zebra.serve.schema import Asked
from zebra.values import Score
from zebra.workflows.human import QuizSet, Standing, standings

Shots = Literal[0, 1, 2]
Name = Annotated[str, Field(min_length=1, max_length=200)]
MEDIA_TYPES = {
    b"\xff\xd8\xff": "image/jpeg",
    b"\x89PNG": "image/png",
    b"GIF8": "image/gif",
    b"RIFF": "image/webp",
}
"""How a picture begins → what it is; of others the browser is told nothing."""


class StartRequest(Asked):
    """Who answers, and after how many examples of each class."""

    person: Name
    shots: Shots = 0


class Said(Asked):
    """One answer, as a line of the file of `zebra human` has it."""

    image: Name
    answer: Name
    """A class name, or ? for "I don't know"."""
    shots: Shots = 0
    person: Name | None = None
    """The request's without it."""


class ScoreRequest(Asked):
    """Answers of one person, or of several who name themselves in each."""

    person: Name
    answers: Annotated[list[Said], Field(min_length=1, max_length=100_000)]


class SetAnswer(BaseModel):
    """What a set holds."""

    name: str
    classes: list[str]
    pictures: int
    examples_available: int


class Examples(BaseModel):
    """What a person sees of a class before."""

    label: str
    images: list[str]


class StartAnswer(BaseModel):
    """Picture ids in this person's order; addresses of the examples."""

    questions: list[str]
    examples: list[Examples]


class Interval(BaseModel):
    """A share with its 95 % interval over n pictures."""

    value: float
    low: float
    high: float
    n: int


class ClassScore(BaseModel):
    """How hard one class is."""

    label: str
    people: Interval
    model: Interval


class StandingAnswer(BaseModel):
    """A row of Table 2 beside the model's, and both by class (Fig. 16), the hardest for people first."""

    shots: int
    people: int
    answers: int
    accuracy: Interval
    majority: Interval | None
    on_guesses: Interval | None
    majority_on_guesses: Interval | None
    model: Interval
    correlation: Interval | None
    classes: list[ClassScore]


class ScoreAnswer(BaseModel):
    """One standing for each number of examples."""

    standings: list[StandingAnswer]


class Quiz:
    """One set and what a model makes of it."""

    def __init__(self, asked: QuizSet, model: Callable[[], Bundle]) -> None:
        self.set = asked
        self._model = model
        self._right: Mapping[str, bool] | None = None
        self._lock = Lock()

    def right(self) -> Mapping[str, bool]:
        """Return picture id → whether the model classifies it correctly; found once, by the set's own prompts."""
        with self._lock:
            if self._right is None:
                clip, benchmark = self._model(), self.set.benchmark
                outcome = zero_shot(
                    embed_source(clip, benchmark.source), head(clip, prompts_for(benchmark, "own"))
                )
                self._right = dict(zip(self.set.ids, outcome.correct_N.tolist(), strict=True))
            return self._right

    def prepare(self) -> None:
        """Find what the model makes of the set, if it can be found now."""
        with suppress(ZebraError):  # the first score tries again, and says why not
            self.right()

    @cached_property
    def tests(self) -> dict[str, int]:
        """Picture id → position among the questions."""
        return {name: position for position, name in enumerate(self.set.ids)}

    @cached_property
    def shown(self) -> dict[str, int]:
        """Picture id → position among what examples are taken from."""
        source = self.set.teacher.source
        return {source.locate(position): position for position in range(len(source))}

    def address(self, position: int) -> str:
        """Return where an example is found."""
        name = self.set.teacher.source.locate(position)
        return f"/v1/quiz/{quote(self.set.name, safe='')}/images/{quote(name, safe='')}?example=1"

    def picture(self, name: str, *, example: bool) -> bytes:
        """Return the encoded bytes of a picture; Refusal if there is none of this id."""
        known = self.shown if example else self.tests
        if name not in known:
            raise Refusal(404, f"the set {self.set.name} has no picture of this id")
        benchmark: Benchmark = self.set.teacher if example else self.set.benchmark
        return benchmark.source.read(known[name]).image

    def answers(self, request: ScoreRequest) -> list[Answer]:
        """Check answers; DataError names the first that cannot be one."""
        index = {name: number for number, name in enumerate(self.set.classnames)}
        seen: set[tuple[str, str, int]] = set()
        answers = []
        for number, said in enumerate(request.answers, start=1):
            if said.image not in self.set.labels:
                raise DataError(f"answer {number}: the set {self.set.name} has no picture {said.image!r}")
            if said.answer != UNKNOWN and said.answer not in index:
                close = nearest(said.answer, index)[:200]
                raise DataError(
                    f"answer {number}: no class {said.answer!r}, nor {UNKNOWN} for not knowing.{close}"
                )
            key = (said.person or request.person, said.image, said.shots)
            if key in seen:
                raise DataError(f"answer {number}: {key[0]!r} has answered {said.image!r} already")
            seen.add(key)
            answers.append(Answer(key[0], said.image, index.get(said.answer), said.shots))
        return answers


def names(folders: Sequence[Path]) -> list[str]:
    """Return what the sets in some folders are called."""
    return [folder.resolve().name for folder in folders]


def router(folders: Sequence[Path], model: Callable[[], Bundle]) -> APIRouter:
    """Return the routes of the quiz.

    Args:
        folders: CLIP_benchmark folders; the last part of the path names a set.
        model: Gives the model that people are compared with, or raises while there is none.

    Raises:
        DataError: A set is not whole.
        ConfigError: Two sets have one name.
    """
    quizzes: dict[str, Quiz] = {}
    for folder in folders:
        quiz = Quiz(QuizSet(folder), model)
        if quiz.set.name in quizzes:
            raise ConfigError(f"two quiz sets are called {quiz.set.name}; rename the folder {folder}")
        quizzes[quiz.set.name] = quiz
    routes = APIRouter(prefix="/v1/quiz", tags=["quiz"])

    def of(name: str) -> Quiz:
        if name not in quizzes:
            raise Refusal(404, f"no quiz set {name!r}.{nearest(name, quizzes)[:200]}")
        return quizzes[name]

    @routes.get("/{name}")
    def about(name: str) -> SetAnswer:
        """Say what a set holds."""
        asked = of(name).set
        return SetAnswer(
            name=asked.name,
            classes=list(asked.classnames),
            pictures=len(asked.ids),
            examples_available=min(2, asked.most_shots),
        )

    @routes.post("/{name}/start")
    def start(name: str, request: StartRequest, later: BackgroundTasks) -> StartAnswer:
        """Give the questions in the order of this person, the same whenever it is asked for."""
        quiz = of(name)
        asked = quiz.set
        later.add_task(quiz.prepare)  # so that the first score need not wait for it
        return StartAnswer(
            questions=[asked.ids[position] for position in asked.questions(request.person, request.shots)],
            examples=[
                Examples(label=label, images=[quiz.address(position) for position in positions])
                for label, positions in zip(asked.classnames, asked.examples(request.shots), strict=False)
            ],
        )

    @routes.get("/{name}/images/{picture:path}", response_class=Response)
    def image(name: str, picture: str, example: bool = False) -> Response:
        """Give the bytes of a picture to be asked about, or of an example."""
        data = of(name).picture(picture, example=example)
        kind = next((kind for start, kind in MEDIA_TYPES.items() if data.startswith(start)), None)
        return Response(
            data,
            media_type=kind or "application/octet-stream",
            headers={"Cache-Control": "private, max-age=3600"},
        )

    @routes.post("/{name}/score")
    def score(name: str, request: ScoreRequest) -> ScoreAnswer:
        """Set answers beside the model's on the same pictures."""
        quiz = of(name)
        found = standings(quiz.answers(request), quiz.set.labels, quiz.right(), quiz.set.classnames)
        return ScoreAnswer(standings=[_standing(standing) for standing in found])

    return routes


def _standing(standing: Standing) -> StandingAnswer:
    people, hardness = standing.people, standing.difficulty
    return StandingAnswer(
        shots=standing.shots,
        people=people.people,
        answers=people.answers,
        accuracy=_interval(people.accuracy),
        majority=_maybe(people.majority),
        on_guesses=_maybe(people.on_guesses),
        majority_on_guesses=_maybe(people.majority_on_guesses),
        model=_interval(standing.model),
        correlation=_maybe(hardness.correlation),
        classes=[
            ClassScore(label=label, people=_interval(theirs), model=_interval(its))
            for label, theirs, its in zip(hardness.classes, hardness.people, hardness.model, strict=True)
        ],
    )


def _maybe(score: Score | None) -> Interval | None:
    return None if score is None else _interval(score)


def _interval(score: Score) -> Interval:
    return Interval(value=score.value, low=score.low, high=score.high, n=score.n)
