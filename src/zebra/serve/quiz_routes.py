"""HTTP routes of the quiz, in which people classify the images too (CLIP §4).

The server stores no answers: the client keeps them, and sends them to be scored.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Annotated, Literal
from urllib.parse import quote

from fastapi import APIRouter, BackgroundTasks, Response
from pydantic import BaseModel, Field

from zebra.data.benchmarks.tasks import ClassificationBenchmark
from zebra.errors import ConfigError, DataError, ZebraError, suggest_name
from zebra.evaluators.quiz_dataset import QuizDataset
from zebra.images.formats import media_type
from zebra.serve.errors import HTTPError
from zebra.serve.requests import RequestModel
from zebra.values import Score

if TYPE_CHECKING:  # they import SciPy, which scores need only
    from zebra.evaluators.human import HumanModelComparison
    from zebra.protocols.human import HumanAnswer

ClassifyQuiz = Callable[[QuizDataset], Mapping[str, bool]]
"""Return image id → whether the model is right, or raise if it cannot be loaded now."""
NumShots = Literal[0, 1, 2]
ShortText = Annotated[str, Field(min_length=1, max_length=200)]
MAX_ANSWERS = 100_000
MAX_SUGGESTION_LENGTH = 200
"""Class names can be long, and are part of error messages."""


class QuizStartRequest(RequestModel):
    """The person who answers, and the number of examples per class to show first."""

    person: ShortText
    shots: NumShots = 0


class QuizAnswer(RequestModel):
    """One answer, with the columns of the CSV file that `zebra human` writes."""

    image: ShortText
    answer: ShortText
    """A class name, or ? for "I don't know"."""
    shots: NumShots = 0
    person: ShortText | None = None
    """The person who gave the answer; by default the person of the request."""


class QuizScoreRequest(RequestModel):
    """Answers of one person, or of several people who are named in each answer."""

    person: ShortText
    answers: Annotated[list[QuizAnswer], Field(min_length=1, max_length=MAX_ANSWERS)]


class QuizInfo(BaseModel):
    """Classes and size of a quiz dataset."""

    name: str
    classes: list[str]
    num_images: int
    max_shots: int


class ClassExamples(BaseModel):
    """URLs of the example images of one class."""

    label: str
    images: list[str]


class QuizStartResponse(BaseModel):
    """Image ids in this person's order, and the examples."""

    questions: list[str]
    examples: list[ClassExamples]


class ScoreInterval(BaseModel):
    """A score with its 95 % interval over n images."""

    value: float
    low: float
    high: float
    n: int


class ClassScore(BaseModel):
    """Accuracy of people and model on one class."""

    label: str
    people: ScoreInterval
    model: ScoreInterval


class QuizResult(BaseModel):
    """A row of Table 2 beside the model's, and both by class (Fig. 16), hardest for people first."""

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
    """One result for each number of shots."""

    results: list[QuizResult]


class QuizService:
    """A quiz dataset and the model's answers to it."""

    def __init__(self, dataset: QuizDataset, classify: ClassifyQuiz, root_path: str = "") -> None:
        self.dataset = dataset
        self._root_path = root_path
        self._classify = classify
        self._is_correct_by_id: Mapping[str, bool] | None = None
        self._lock = Lock()

    def model_correctness(self) -> Mapping[str, bool]:
        """Return image id → whether the model is right, computed once with the dataset's own prompts."""
        with self._lock:
            if self._is_correct_by_id is None:
                self._is_correct_by_id = self._classify(self.dataset)
            return self._is_correct_by_id

    def precompute(self) -> None:
        """Compute the model's answers, if the model can be loaded now."""
        with suppress(ZebraError):  # the first score request tries again and reports the error
            self.model_correctness()

    @cached_property
    def question_index(self) -> dict[str, int]:
        """Image id → position in the dataset of questions."""
        return {image_id: position for position, image_id in enumerate(self.dataset.ids)}

    @cached_property
    def example_index(self) -> dict[str, int]:
        """Image id → position in the dataset of examples."""
        source = self.dataset.example_benchmark.source
        return {source.sample_id(position): position for position in range(len(source))}

    def example_url(self, position: int) -> str:
        """Return the URL of an example image."""
        image_id = self.dataset.example_benchmark.source.sample_id(position)
        name = quote(self.dataset.name, safe="")
        return f"{self._root_path}/v1/quiz/{name}/images/{quote(image_id, safe='')}?example=1"

    def read_image(self, image_id: str, *, is_example: bool) -> bytes:
        """Return an encoded image; HTTPError (404) if the id is unknown."""
        index = self.example_index if is_example else self.question_index
        if image_id not in index:
            raise HTTPError(404, f"dataset {self.dataset.name} has no image with this id")
        benchmark: ClassificationBenchmark = self.dataset.example_benchmark if is_example else self.dataset.benchmark
        return benchmark.source.read(index[image_id]).image

    def parse_answers(self, request: QuizScoreRequest) -> "list[HumanAnswer]":
        """Validate the answers of a request; DataError names the first invalid one."""
        from zebra.protocols.human import UNKNOWN_ANSWER, HumanAnswer

        label_by_name = {name: label for label, name in enumerate(self.dataset.classnames)}
        seen: set[tuple[str, str, int]] = set()
        answers = []
        for number, item in enumerate(request.answers, start=1):
            if item.image not in self.dataset.labels:
                raise DataError(f"answer {number}: dataset {self.dataset.name} has no image {item.image!r}")
            if item.answer != UNKNOWN_ANSWER and item.answer not in label_by_name:
                suggestion = suggest_name(item.answer, label_by_name)[:MAX_SUGGESTION_LENGTH]
                raise DataError(
                    f"answer {number}: no class {item.answer!r}. Give a class name, or {UNKNOWN_ANSWER} for \"I don't "
                    f'know".{suggestion}'
                )
            key = (item.person or request.person, item.image, item.shots)
            if key in seen:
                raise DataError(f"answer {number}: {key[0]!r} has already answered {item.image!r}")
            seen.add(key)
            answers.append(HumanAnswer(key[0], item.image, label_by_name.get(item.answer), item.shots))
        return answers


def quiz_names(dataset_dirs: Sequence[Path]) -> list[str]:
    """Return the names of quiz datasets."""
    return [path.resolve().name for path in dataset_dirs]


def quiz_router(dataset_dirs: Sequence[Path], classify: ClassifyQuiz, *, root_path: str = "") -> APIRouter:
    """Return the routes of the quiz.

    Args:
        dataset_dirs: CLIP_benchmark folders; the last part of the path is the name of the dataset.
        classify: Computes the answers of the model that people are compared with.
        root_path: Path of the server behind a proxy, the beginning of every URL.

    Raises:
        DataError: A dataset is incomplete.
        ConfigError: Two datasets have the same name.
    """
    quizzes: dict[str, QuizService] = {}
    for path in dataset_dirs:
        quiz = QuizService(QuizDataset(path), classify, root_path)
        if quiz.dataset.name in quizzes:
            raise ConfigError(f"two quiz datasets are called {quiz.dataset.name}. Rename the folder {path}.")
        quizzes[quiz.dataset.name] = quiz
    router = APIRouter(prefix="/v1/quiz", tags=["quiz"])

    def require_quiz(name: str) -> QuizService:
        if name not in quizzes:
            suggestion = suggest_name(name, quizzes)[:MAX_SUGGESTION_LENGTH]
            raise HTTPError(404, f"no quiz dataset {name!r}.{suggestion}")
        return quizzes[name]

    @router.get("/{name}")
    def get_quiz(name: str) -> QuizInfo:
        """Return the classes and the size of a quiz dataset."""
        dataset = require_quiz(name).dataset
        return QuizInfo(
            name=dataset.name,
            classes=list(dataset.classnames),
            num_images=len(dataset.ids),
            max_shots=min(2, dataset.max_shots),
        )

    @router.post("/{name}/start")
    def start_quiz(name: str, request: QuizStartRequest, tasks: BackgroundTasks) -> QuizStartResponse:
        """Return the questions in this person's order, which is the same every time."""
        quiz = require_quiz(name)
        dataset = quiz.dataset
        tasks.add_task(quiz.precompute)  # the first score request need not wait for it
        return QuizStartResponse(
            questions=[dataset.ids[position] for position in dataset.question_order(request.person, request.shots)],
            examples=[
                ClassExamples(label=label, images=[quiz.example_url(position) for position in positions])
                for label, positions in zip(dataset.classnames, dataset.sample_examples(request.shots), strict=False)
            ],
        )

    @router.get("/{name}/images/{image_id:path}", response_class=Response)
    def get_quiz_image(name: str, image_id: str, example: bool = False) -> Response:
        """Return the image file of a question or of an example."""
        data = require_quiz(name).read_image(image_id, is_example=example)
        return Response(data, media_type=media_type(data), headers={"Cache-Control": "private, max-age=3600"})

    @router.post("/{name}/score")
    def score_quiz(name: str, request: QuizScoreRequest) -> QuizScoreResponse:
        """Score answers, and compare them with the model's on the same images."""
        from zebra.evaluators.human import compare_humans_with_model

        quiz = require_quiz(name)
        comparisons = compare_humans_with_model(
            quiz.parse_answers(request), quiz.dataset.labels, quiz.model_correctness(), quiz.dataset.classnames
        )
        return QuizScoreResponse(results=[_to_quiz_result(comparison) for comparison in comparisons])

    return router


def _to_quiz_result(comparison: "HumanModelComparison") -> QuizResult:
    human, difficulty = comparison.human, comparison.difficulty
    return QuizResult(
        shots=comparison.shots,
        num_people=human.num_people,
        num_answers=human.num_answers,
        accuracy=_to_interval(human.accuracy),
        majority=_optional_interval(human.majority_accuracy),
        on_guesses=_optional_interval(human.accuracy_on_guesses),
        majority_on_guesses=_optional_interval(human.majority_accuracy_on_guesses),
        model=_to_interval(comparison.model_accuracy),
        correlation=_optional_interval(difficulty.correlation),
        classes=[
            ClassScore(label=label, people=_to_interval(human_score), model=_to_interval(model_score))
            for label, human_score, model_score in zip(
                difficulty.classnames, difficulty.human_scores, difficulty.model_scores, strict=True
            )
        ],
    )


def _optional_interval(score: Score | None) -> ScoreInterval | None:
    return None if score is None else _to_interval(score)


def _to_interval(score: Score) -> ScoreInterval:
    return ScoreInterval(value=score.value, low=score.low, high=score.high, n=score.n)
