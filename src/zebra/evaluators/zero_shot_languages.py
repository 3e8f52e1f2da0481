"""Zero-shot classification with class names in several languages."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from zebra.data.benchmarks.catalog import list_prompt_names
from zebra.data.benchmarks.languages import name_language, select_languages
from zebra.data.benchmarks.tasks import ClassificationBenchmark
from zebra.evaluators.embeddings import embed_source
from zebra.evaluators.languages import build_mean_predictions, describe_mean
from zebra.evaluators.predictions import build_classification_predictions
from zebra.evaluators.results import TaskResult
from zebra.evaluators.zero_shot import ENSEMBLE_TASK, build_zero_shot_classifier, equal_class_notes
from zebra.pretrained.bundle import Bundle
from zebra.protocols.language_mean import LanguageHits, average_metrics
from zebra.protocols.language_prompts import LanguagePrompts, read_language_prompts
from zebra.protocols.linear_probe import select
from zebra.protocols.zero_shot import ClassificationResult, classify_zero_shot
from zebra.values import Embeddings, Score

MEAN_METRIC = "top1"


def read_prompts_by_language(
    benchmark: ClassificationBenchmark, spec: str, model_templates: Sequence[str]
) -> dict[str, LanguagePrompts]:
    """Return the prompts of all languages in the user's files; those without templates take the model's."""
    names = tuple(dict.fromkeys((benchmark.name, *list_prompt_names(benchmark.name))))
    return read_language_prompts(spec, names, benchmark.classnames, model_templates)


def hash_prompts_by_language(benchmark: ClassificationBenchmark, spec: str, model_templates: Sequence[str]) -> str:
    """Return a digest of the prompts of all languages."""
    prompts = read_prompts_by_language(benchmark, spec, model_templates)
    parts = [f"{language} {entry.labels} {entry.prompts.hash}" for language, entry in prompts.items()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def evaluate_zero_shot_by_language(
    clip: Bundle, benchmark: ClassificationBenchmark, spec: str, languages: Sequence[str] = ()
) -> Iterator[TaskResult]:
    """Yield the results of each language as `zero-shot-LANGUAGE`, and their mean as `zero-shot`.

    The images pass the image tower once. In a language that lacks names of some classes, the images of the others are
    classified, as in Babel-ImageNet.

    Args:
        clip: The model.
        benchmark: Labeled images.
        spec: Path of the prompts; see `read_language_prompts`.
        languages: Codes of the languages to evaluate; () for all.

    Raises:
        DataError: The prompts do not fit the dataset, or have none of the languages.
    """
    prompts = read_prompts_by_language(benchmark, spec, clip.templates)
    selected, lacking = select_languages(tuple(prompts), languages, spec)
    images = embed_source(clip, benchmark.source)
    assert images.labels is not None
    hits: dict[str, Mapping[str, LanguageHits]] = {}
    scores: dict[str, Score] = {}
    noted: list[str] = []
    for language in selected:
        used_N = np.flatnonzero(np.isin(images.labels, prompts[language].labels))
        result, notes = _classify(clip, images, used_N, prompts[language], language, len(benchmark.classnames))
        correct = {"top1": result.correct_N} | ({"top5": result.correct_top5_N} if result.num_classes > 5 else {})
        hits[language] = {metric: LanguageHits(hit_N, used_N) for metric, hit_N in correct.items()}
        scores[language] = result.scores()[MEAN_METRIC]
        noted += [language] if notes else []
        names = prompts[language].prompts.classnames or ()
        yield TaskResult(
            benchmark.name,
            f"{ENSEMBLE_TASK}-{language}",
            result.scores(),
            benchmark.source.digest,
            prompts_hash=prompts[language].prompts.hash,
            notes=(*benchmark.notes, *notes),
            predictions=build_classification_predictions([images.ids[n] for n in used_N], result, names),
            chance_accuracy=1 / result.num_classes,
        )
    means = average_metrics(hits)
    yield TaskResult(
        benchmark.name,
        ENSEMBLE_TASK,
        means,
        benchmark.source.digest,
        prompts_hash=hash_prompts_by_language(benchmark, spec, clip.templates),
        notes=(
            *benchmark.notes,
            *([f"no prompts in {', '.join(map(name_language, lacking))}"] if lacking else []),
            *describe_mean(scores, MEAN_METRIC, len(selected), len(prompts)),
            *([f"see the notes on {', '.join(noted)}"] if noted else []),
        ),
        predictions=build_mean_predictions(images, hits, list(means)),
    )


def _classify(
    clip: Bundle,
    images: Embeddings,
    used_N: NDArray[np.int64],
    prompts: LanguagePrompts,
    language: str,
    num_classes: int,
) -> tuple[ClassificationResult, tuple[str, ...]]:
    """Classify the images whose class has a name in the language; return also the notes on the language."""
    class_CE = build_zero_shot_classifier(clip, prompts.prompts)
    chosen = select(images, used_N)
    assert chosen.labels is not None
    relabeled = replace(chosen, labels=np.searchsorted(prompts.labels, chosen.labels))
    result = classify_zero_shot(relabeled, class_CE, scale=clip.logit_scale, bias=clip.logit_bias)
    names = prompts.prompts.classnames or ()
    counts = clip.require_tokenizer().count_tokens([text for texts in prompts.prompts.prompts() for text in texts])
    missing = num_classes - len(prompts.labels)
    notes = (
        *([f"{missing:,} of {num_classes:,} classes have no name; their images are left out"] if missing else []),
        *equal_class_notes(class_CE, names),
    )
    return result, (*(f"{language}: {note}" for note in notes), *counts.describe_coverage(language))
