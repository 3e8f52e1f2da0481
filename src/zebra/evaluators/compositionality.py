"""Evaluate compositionality: captions and images that differ in a detail."""

import numpy as np
from numpy.typing import NDArray

from zebra.data.benchmarks.tasks import CompositionalityBenchmark, CompositionalityQuestion
from zebra.errors import DataError
from zebra.evaluators.embeddings import embed_source
from zebra.evaluators.predictions import build_compositionality_predictions
from zebra.evaluators.results import TaskResult
from zebra.pretrained.bundle import Bundle
from zebra.protocols.category_scores import cluster_by_shared, score_categories, score_proportion, weigh_categories
from zebra.protocols.compositionality import Choices, evaluate_choices
from zebra.values import Score

MACRO_PREFIX = "macro_"


def evaluate_compositionality(clip: Bundle, benchmark: CompositionalityBenchmark) -> TaskResult:
    """Choose between captions, or match captions with images, that differ in a detail.

    Scores: those of all questions (`Choices`), one for each category, and, if it is the benchmark's metric, the mean
    over categories, `macro_…`. Intervals treat questions on one image file as one cluster.

    Raises:
        DataError: Questions differ in form, or a category has the name of a score.
    """
    questions = benchmark.questions
    _require_one_form(benchmark)
    images = embed_source(clip, benchmark.source)
    captions = {caption: None for question in questions for caption in question.captions}
    caption_KE = clip.encode_texts(list(captions)).numpy()
    indices = {caption: index for index, caption in enumerate(captions)}
    image_index_NI = np.array([question.image_indices for question in questions])
    caption_index_NC = np.array([[indices[caption] for caption in question.captions] for question in questions])
    choices = evaluate_choices(
        images.vectors, caption_KE, image_index_NI, caption_index_NC, questions[0].image_of_caption
    )
    category_N = [question.category for question in questions]
    weight_N = weigh_categories(
        category_N, min_size=benchmark.min_category_size, excluded=benchmark.excluded_categories
    )
    by_category = benchmark.metric.removeprefix(MACRO_PREFIX)
    file_index_NI = np.asarray(benchmark.file_of_image)[image_index_NI] if benchmark.file_of_image else image_index_NI
    scores = _collect_scores(choices, benchmark.metric, category_N, weight_N, cluster_by_shared(file_index_NI))
    ids = [f"{images.ids[index]}#{number}" for number, index in enumerate(image_index_NI[:, 0])]
    predictions = build_compositionality_predictions(ids, choices.correct, by_category, category_N, weight_N)
    chance = choices.chance
    return TaskResult(
        benchmark.name,
        "compositionality",
        scores,
        benchmark.source.digest,
        notes=(*benchmark.notes, *_notes(choices, by_category, questions, weight_N)),
        predictions=predictions,
        chance={name: chance[name if name in chance else by_category] for name in scores},
    )


def _require_one_form(benchmark: CompositionalityBenchmark) -> None:
    forms = {
        (len(question.image_indices), len(question.captions), question.image_of_caption)
        for question in benchmark.questions
    }
    if len(forms) != 1:
        raise DataError(
            f"{benchmark.name} has {len(benchmark.questions)} questions of {len(forms)} forms. All questions of a "
            "benchmark must have equally many images and captions"
        )


def _collect_scores(
    choices: Choices, metric: str, category_N: list[str], weight_N: NDArray[np.float64], cluster_N: NDArray[np.int64]
) -> dict[str, Score]:
    """Return the mean over categories, the scores of all questions, and those of categories."""
    correct_N = choices.correct[metric.removeprefix(MACRO_PREFIX)]
    categories = score_categories(correct_N, category_N, weight_N, cluster_N) if any(weight_N) else {}
    macro = categories.pop("", None)
    overall = {name: score_proportion(values_N, cluster_N) for name, values_N in choices.correct.items()}
    means = {metric: macro} if macro is not None and metric.startswith(MACRO_PREFIX) else {}
    if clashes := categories.keys() & (overall | means).keys():
        raise DataError(f"a category of questions has the name of a score: {min(clashes)}. Rename the category")
    return means | overall | categories


def _notes(
    choices: Choices, by_category: str, questions: tuple[CompositionalityQuestion, ...], weight_N: NDArray[np.float64]
) -> list[str]:
    notes = [f"chance: {', '.join(f'{name} {100 * value:.1f}%' for name, value in choices.chance.items())}"]
    if num_tied := int(choices.tied[by_category].sum()):
        notes.append(
            f"{num_tied:,} of {len(questions):,} questions are ties in {by_category}, which count as wrong: a right "
            "and a wrong caption, or image, have exactly the same similarity"
        )
    uncounted = {question.category for question, weight in zip(questions, weight_N, strict=True) if weight == 0} - {""}
    if uncounted:
        num_questions = sum(question.category in uncounted for question in questions)
        notes.append(
            f"small or excluded categories do not count in the mean over categories: {len(uncounted)}, with "
            f"{num_questions:,} of {len(questions):,} questions"
        )
    return notes
