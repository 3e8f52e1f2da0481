"""Evaluate retrieval in several languages on the same images."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from zebra.data.benchmarks.languages import name_language, select_languages
from zebra.data.benchmarks.tasks import MultilingualRetrievalBenchmark
from zebra.errors import DataError
from zebra.evaluators.embeddings import embed_source
from zebra.evaluators.results import TaskResult
from zebra.evaluators.retrieval import retrieve
from zebra.pretrained.bundle import Bundle
from zebra.protocols.language_mean import LanguageHits, average_metrics, image_contributions
from zebra.protocols.linear_probe import select
from zebra.protocols.retrieval import RetrievalRanks
from zebra.values import Embeddings, Score

LANGUAGE_TASKS = ("retrieval", "zero-shot")
"""Tasks with a result per language, named TASK-LANGUAGE, and their mean, named TASK."""
OTHER_TASKS = ("zero-shot-bare-name", "zero-shot-one-prompt")


def language_of(task: str) -> str:
    """Return the language of a result's task; "" for a task without a language.

    >>> language_of("retrieval-zho_Hant"), language_of("retrieval"), language_of("zero-shot-bare-name")
    ('zho_Hant', '', '')
    """
    prefix = next((f"{name}-" for name in LANGUAGE_TASKS if task.startswith(f"{name}-")), None)
    return "" if prefix is None or task in OTHER_TASKS else task.removeprefix(prefix)


def evaluate_multilingual_retrieval(
    clip: Bundle, benchmark: MultilingualRetrievalBenchmark, caption_prefix: str, languages: Sequence[str] = ()
) -> Iterator[TaskResult]:
    """Yield the results of each language as `retrieval-LANGUAGE`, and their mean as `retrieval`.

    The images pass the image tower once. An image without a caption in a language is left out in this language.

    Args:
        clip: The model.
        benchmark: Images with captions by language.
        caption_prefix: Text put before every caption.
        languages: Codes of the languages to evaluate; () for all.

    Raises:
        DataError: The dataset has none of the languages, or a language has no captions.
    """
    selected, lacking = select_languages(tuple(benchmark.captions), languages, benchmark.name)
    images = embed_source(clip, benchmark.source)
    hits: dict[str, Mapping[str, LanguageHits]] = {}
    scores: dict[str, Score] = {}
    noted: list[str] = []
    for language in selected:
        captions = benchmark.captions[language]
        used_N = np.flatnonzero([bool(captions_of_image) for captions_of_image in captions])
        if not len(used_N):
            raise DataError(f"{benchmark.name} has no caption in {language!r}. Leave this language out")
        retrieval = retrieve(
            clip, select(images, used_N), [captions[index] for index in used_N], caption_prefix, language
        )
        missing = len(captions) - len(used_N)
        language_notes = (
            *(
                [f"{language}: {missing:,} of {len(captions):,} images have no caption and are left out"]
                if missing
                else []
            ),
            *retrieval.notes,
        )
        hits[language] = collect_hits(retrieval.ranks, used_N)
        language_scores = retrieval.ranks.scores()
        if benchmark.metric in language_scores:
            scores[language] = language_scores[benchmark.metric]
        noted += [language] if language_notes else []
        yield TaskResult(
            benchmark.name,
            f"retrieval-{language}",
            language_scores,
            benchmark.source.digest,
            notes=(*benchmark.notes, f"caption prefix: {caption_prefix!r}", *language_notes),
            predictions=retrieval.predictions,
        )
    means = average_metrics(hits)
    yield TaskResult(
        benchmark.name,
        "retrieval",
        means,
        benchmark.source.digest,
        notes=(
            *benchmark.notes,
            f"caption prefix: {caption_prefix!r}",
            *([f"no captions in {', '.join(map(name_language, lacking))}"] if lacking else []),
            *describe_mean(scores, benchmark.metric, len(selected), len(benchmark.captions)),
            *([f"see the notes on {', '.join(noted)}"] if noted else []),
        ),
        predictions=build_mean_predictions(images, hits, list(means)),
    )


def collect_hits(ranks: RetrievalRanks, image_N: NDArray[np.int64]) -> dict[str, LanguageHits]:
    """Return the hits of each metric of `RetrievalRanks.scores`.

    Args:
        ranks: Ranks in one language.
        image_N: Position in the dataset of each image that is used.
    """
    rank_by_direction = {
        "image_to_text": (ranks.text_rank_N, image_N),
        "text_to_image": (ranks.image_rank_M, image_N[ranks.image_of_text_M]),
    }
    result = {}
    for metric in ranks.scores():
        direction, _, k = metric.partition("_recall@")
        rank, image = rank_by_direction[direction]
        result[metric] = LanguageHits(rank <= int(k), image)
    return result


def describe_mean(scores: Mapping[str, Score], metric: str, num_selected: int, num_available: int) -> tuple[str, ...]:
    """Return a note on what the mean is over, and the best and the worst language."""
    which = (
        f"{num_selected} languages" if num_selected == num_available else f"{num_selected} of {num_available} languages"
    )
    notes = [f"mean over {which}, each with equal weight; the interval accounts for the images that they share"]
    if len(scores) > 1:
        worst, best = (extreme(scores, key=lambda code: scores[code].value) for extreme in (min, max))
        notes.append(
            f"{metric}: worst in {name_language(worst)} ({scores[worst].value:.1%}), best in {name_language(best)} "
            f"({scores[best].value:.1%})"
        )
    return tuple(notes)


def build_mean_predictions(
    images: Embeddings, hits: Mapping[str, Mapping[str, LanguageHits]], metrics: Sequence[str]
) -> pa.Table:
    """Return one row per image: the id, and for each metric a value whose mean over the rows is the score."""
    columns = {
        metric: image_contributions([by_metric[metric] for by_metric in hits.values()], len(images.ids))
        for metric in metrics
    }
    return pa.table({"id": list(images.ids), **columns})
