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

from zebra.data.benchmarks.tasks import ClassificationBenchmark
from zebra.errors import ConfigError, DataError, ZebraError, suggest_name
from zebra.evaluators.embeddings import embed_source
from zebra.evaluators.human import HumanModelComparison, QuizDataset, compare_humans_with_model
from zebra.evaluators.zero_shot import build_zero_shot_classifier, resolve_prompts
from zebra.pretrained.bundle import Bundle
from zebra.protocols.human import UNKNOWN_ANSWER, HumanAnswer
from zebra.protocols.zero_shot import classify_zero_shot
from zebra.serve.errors import HTTPError
from zebra.serve.schema import RequestModel
from zebra.values import Score

NumShots = Literal[0, 1, 2]
ShortText = Annotated[str, Field(min_length=1, max_length=200)]
MEDIA_TYPES = {
    b"\xff\xd8\xff": "image/jpeg",
    b"\x89PNG": "image/png",
    b"GIF8": "image/gif",
    b"RIFF": "image/webp",
}
"""How a picture begins → what it is; of others the browser is told nothing."""


class QuizStartRequest(RequestModel):
    """Who answers, and after how many examples of each class."""

    person: ShortText
    shots: NumShots = 0


class QuizAnswer(RequestModel):
    """One answer, as a line of the file of `zebra human` has it."""

    image: ShortText
    answer: ShortText
    """A class name, or ? for "I don't know"."""
    shots: NumShots = 0
    person: ShortText | None = None
    """The request's without it."""


class QuizScoreRequest(RequestModel):
    """Answers of one person, or of several who name themselves in each."""

    person: ShortText
    answers: Annotated[list[QuizAnswer], Field(min_length=1, max_length=100_000)]


class QuizInfo(BaseModel):
    """What a set holds."""

    name: str
    classes: list[str]
    num_images: int
    max_shots: int


class ClassExamples(BaseModel):
    """What a person sees of a class before."""

    label: str
    images: list[str]


class QuizStartResponse(BaseModel):
    """Picture ids in this person's order; addresses of the examples."""

    questions: list[str]
    examples: list[ClassExamples]


class ScoreInterval(BaseModel):
    """A share with its 95 % interval over n pictures."""

    value: float
    low: float
    high: float
    n: int


class ClassScore(BaseModel):
    """How hard one class is."""

    label: str
    people: ScoreInterval
    model: ScoreInterval


class QuizResult(BaseModel):
    """A row of Table 2 beside the model's, and both by class (Fig. 16), the hardest for people first."""

    shots: int
    num_people: int
    num_answers: int
    accuracy: ScoreInterval
    majority: ScoreInterval | None
    on_guesses: ScoreInterval | None
    majority_on_guesses: ScoreInterval | None
    model: ScoreInterval
    correlation: ScoreInterval | None
    classes: list[ClassScore]


class QuizScoreResponse(BaseModel):
    """One standing for each number of examples."""

    results: list[QuizResult]


class QuizService:
    """One set and what a model makes of it."""

    def __init__(self, dataset: QuizDataset, get_model: Callable[[], Bundle]) -> None:
        self.dataset = dataset
        self._get_model = get_model
        self._is_correct_by_id: Mapping[str, bool] | None = None
        self._lock = Lock()

    def model_correctness(self) -> Mapping[str, bool]:
        """Return picture id → whether the model classifies it correctly; found once, by the set's own prompts."""
        with self._lock:
            if self._is_correct_by_id is None:
                clip, benchmark = self._get_model(), self.dataset.benchmark
                outcome = classify_zero_shot(
                    embed_source(clip, benchmark.source),
                    build_zero_shot_classifier(clip, resolve_prompts(benchmark, "own")),
                )
                self._is_correct_by_id = dict(zip(self.dataset.ids, outcome.correct_N.tolist(), strict=True))
            return self._is_correct_by_id

    def precompute(self) -> None:
        """Find what the model makes of the set, if it can be found now."""
        with suppress(ZebraError):  # the first score tries again, and says why not
            self.model_correctness()

    @cached_property
    def question_index(self) -> dict[str, int]:
        """Picture id → position among the questions."""
        return {name: position for position, name in enumerate(self.dataset.ids)}

    @cached_property
    def example_index(self) -> dict[str, int]:
        """Picture id → position among what examples are taken from."""
        source = self.dataset.example_benchmark.source
        return {source.sample_id(position): position for position in range(len(source))}

    def example_url(self, position: int) -> str:
        """Return where an example is found."""
        name = self.dataset.example_benchmark.source.sample_id(position)
        return f"/v1/quiz/{quote(self.dataset.name, safe='')}/images/{quote(name, safe='')}?example=1"

    def read_image(self, image_id: str, *, is_example: bool) -> bytes:
        """Return the encoded bytes of a picture; Refusal if there is none of this id."""
        known = self.example_index if is_example else self.question_index
        if image_id not in known:
            raise HTTPError(404, f"the set {self.dataset.name} has no picture of this id")
        benchmark: ClassificationBenchmark = (
            self.dataset.example_benchmark if is_example else self.dataset.benchmark
        )
        return benchmark.source.read(known[image_id]).image

    def parse_answers(self, request: QuizScoreRequest) -> list[HumanAnswer]:
        """Check answers; DataError names the first that cannot be one."""
        index = {name: number for number, name in enumerate(self.dataset.classnames)}
        seen: set[tuple[str, str, int]] = set()
        answers = []
        for number, said in enumerate(request.answers, start=1):
            if said.image not in self.dataset.labels:
                raise DataError(f"answer {number}: the set {self.dataset.name} has no picture {said.image!r}")
            if said.answer != UNKNOWN_ANSWER and said.answer not in index:
                close = suggest_name(said.answer, index)[:200]
                raise DataError(
                    f"answer {number}: no class {said.answer!r}, nor {UNKNOWN_ANSWER} for not knowing.{close}"
                )
            key = (said.person or request.person, said.image, said.shots)
            if key in seen:
                raise DataError(f"answer {number}: {key[0]!r} has answered {said.image!r} already")
            seen.add(key)
            answers.append(HumanAnswer(key[0], said.image, index.get(said.answer), said.shots))
        return answers


def quiz_names(dataset_dirs: Sequence[Path]) -> list[str]:
    """Return what the sets in some folders are called."""
    return [folder.resolve().name for folder in dataset_dirs]


def quiz_router(dataset_dirs: Sequence[Path], get_model: Callable[[], Bundle]) -> APIRouter:
    """Return the routes of the quiz.

    Args:
        dataset_dirs: CLIP_benchmark folders; the last part of the path names a set.
        get_model: Gives the model that people are compared with, or raises while there is none.

    Raises:
        DataError: A set is not whole.
        ConfigError: Two sets have one name.
    """
    quizzes: dict[str, QuizService] = {}
    for folder in dataset_dirs:
        quiz = QuizService(QuizDataset(folder), get_model)
        if quiz.dataset.name in quizzes:
            raise ConfigError(f"two quiz sets are called {quiz.dataset.name}; rename the folder {folder}")
        quizzes[quiz.dataset.name] = quiz
    routes = APIRouter(prefix="/v1/quiz", tags=["quiz"])

    def of(name: str) -> QuizService:
        if name not in quizzes:
            raise HTTPError(404, f"no quiz set {name!r}.{suggest_name(name, quizzes)[:200]}")
        return quizzes[name]

    @routes.get("/{name}")
    def about(name: str) -> QuizInfo:
        """Say what a set holds."""
        asked = of(name).dataset
        return QuizInfo(
            name=asked.name,
            classes=list(asked.classnames),
            num_images=len(asked.ids),
            max_shots=min(2, asked.max_shots),
        )

    @routes.post("/{name}/start")
    def start(name: str, request: QuizStartRequest, later: BackgroundTasks) -> QuizStartResponse:
        """Give the questions in the order of this person, the same whenever it is asked for."""
        quiz = of(name)
        asked = quiz.dataset
        later.add_task(quiz.precompute)  # so that the first score need not wait for it
        return QuizStartResponse(
            questions=[
                asked.ids[position] for position in asked.question_order(request.person, request.shots)
            ],
            examples=[
                ClassExamples(label=label, images=[quiz.example_url(position) for position in positions])
                for label, positions in zip(
                    asked.classnames, asked.sample_examples(request.shots), strict=False
                )
            ],
        )

    @routes.get("/{name}/images/{picture:path}", response_class=Response)
    def image(name: str, picture: str, example: bool = False) -> Response:
        """Give the bytes of a picture to be asked about, or of an example."""
        data = of(name).read_image(picture, is_example=example)
        kind = next((kind for start, kind in MEDIA_TYPES.items() if data.startswith(start)), None)
        return Response(
            data,
            media_type=kind or "application/octet-stream",
            headers={"Cache-Control": "private, max-age=3600"},
        )

    @routes.post("/{name}/score")
    def score(name: str, request: QuizScoreRequest) -> QuizScoreResponse:
        """Set answers beside the model's on the same pictures."""
        quiz = of(name)
        found = compare_humans_with_model(
            quiz.parse_answers(request),
            quiz.dataset.labels,
            quiz.model_correctness(),
            quiz.dataset.classnames,
        )
        return QuizScoreResponse(results=[_to_quiz_result(standing) for standing in found])

    return routes


def _to_quiz_result(comparison: HumanModelComparison) -> QuizResult:
    people, hardness = comparison.human, comparison.difficulty
    return QuizResult(
        shots=comparison.shots,
        num_people=people.num_people,
        num_answers=people.num_answers,
        accuracy=_to_interval(people.accuracy),
        majority=_optional_interval(people.majority_accuracy),
        on_guesses=_optional_interval(people.accuracy_on_guesses),
        majority_on_guesses=_optional_interval(people.majority_accuracy_on_guesses),
        model=_to_interval(comparison.model_accuracy),
        correlation=_optional_interval(hardness.correlation),
        classes=[
            ClassScore(label=label, people=_to_interval(theirs), model=_to_interval(its))
            for label, theirs, its in zip(
                hardness.classnames, hardness.human_scores, hardness.model_scores, strict=True
            )
        ],
    )


def _optional_interval(score: Score | None) -> ScoreInterval | None:
    return None if score is None else _to_interval(score)


def _to_interval(score: Score) -> ScoreInterval:
    return ScoreInterval(value=score.value, low=score.low, high=score.high, n=score.n)
