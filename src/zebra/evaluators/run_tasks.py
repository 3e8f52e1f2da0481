"""Run the tasks of `zebra evaluate` that are possible on a dataset."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from zebra.config.evaluate import EvaluateConfig
from zebra.data.benchmarks.tasks import (
    ActionBenchmark,
    AnyBenchmark,
    AssociationBenchmark,
    ClassificationBenchmark,
    CompositionalityBenchmark,
    FrameSetBenchmark,
    GalleryBenchmark,
    GeolocationBenchmark,
    InstanceBenchmark,
    LexiconBenchmark,
    MultilabelBenchmark,
    MultilingualRetrievalBenchmark,
    PromptedBenchmark,
    RetrievalBenchmark,
)
from zebra.errors import UnsuitableDataset
from zebra.evaluators.actions import evaluate_actions
from zebra.evaluators.association import evaluate_association
from zebra.evaluators.calibration import evaluate_calibration
from zebra.evaluators.clustering import evaluate_clustering
from zebra.evaluators.compositionality import evaluate_compositionality
from zebra.evaluators.embeddings import embed_features_and_vectors
from zebra.evaluators.frame_sets import evaluate_frame_sets
from zebra.evaluators.frames import select_frames
from zebra.evaluators.geolocation import evaluate_geolocation
from zebra.evaluators.image_retrieval import evaluate_image_retrieval
from zebra.evaluators.languages import evaluate_multilingual_retrieval
from zebra.evaluators.lexicons import evaluate_lexicons
from zebra.evaluators.linear_probe import evaluate_multilabel_probe, evaluate_probes
from zebra.evaluators.ood import evaluate_ood, load_ood_datasets
from zebra.evaluators.read_counter import count_reads
from zebra.evaluators.results import TaskResult
from zebra.evaluators.retrieval import evaluate_retrieval
from zebra.evaluators.training_splits import LabeledBenchmark, TrainingSplits, load_training_splits
from zebra.evaluators.zero_shot import (
    evaluate_prompt_search,
    evaluate_zero_shot,
    evaluate_zero_shot_multilabel,
    resolve_prompts,
)
from zebra.evaluators.zero_shot_languages import evaluate_zero_shot_by_language
from zebra.pretrained.bundle import Bundle
from zebra.protocols.language_prompts import has_languages
from zebra.protocols.prompts import PromptSet

PROMPT_TASKS = frozenset(("zero-shot", "prompts", "prompt-search", "few-shot", "calibration", "ood"))
"""Tasks that classify by prompts; few-shot probes are compared with zero-shot."""
IMAGE_RETRIEVAL_TASKS = frozenset(("image-retrieval", "retrieval"))
"""Tasks of which each means retrieval of images by images on a dataset for that."""

ProgressCallback = Callable[[int, int, str], None]
"""Called with the number of images read, the total and the dataset's name."""
CountedBenchmark = TypeVar("CountedBenchmark", bound=AnyBenchmark)


def evaluate_dataset(
    clip: Bundle,
    benchmark: AnyBenchmark,
    dataset: str,
    config: EvaluateConfig,
    progress: ProgressCallback = lambda _done, _total, _dataset: None,
) -> Iterator[TaskResult]:
    """Yield the results of all requested tasks that are possible on a dataset."""
    match _count_reads(select_frames(benchmark, config.frames), progress):
        case ClassificationBenchmark() as benchmark:
            yield from _evaluate_classification(clip, benchmark, dataset, config, progress)
        case MultilabelBenchmark() as benchmark:
            yield from _evaluate_multilabel(clip, benchmark, dataset, config, progress)
        case RetrievalBenchmark() as benchmark if "retrieval" in config.tasks:
            yield evaluate_retrieval(clip, benchmark, config.caption_prefix)
        case MultilingualRetrievalBenchmark() as benchmark if "retrieval" in config.tasks:
            yield from evaluate_multilingual_retrieval(clip, benchmark, config.caption_prefix, config.languages)
        case FrameSetBenchmark() | ActionBenchmark() | LexiconBenchmark() as benchmark if "zero-shot" in config.tasks:
            yield _evaluate_by_prompts(clip, benchmark, config)
        case GeolocationBenchmark() as benchmark if "geolocation" in config.tasks:
            yield evaluate_geolocation(clip, benchmark)
        case CompositionalityBenchmark() as benchmark if "compositionality" in config.tasks:
            yield evaluate_compositionality(clip, benchmark)
        case AssociationBenchmark() as benchmark if "association" in config.tasks:
            yield evaluate_association(clip, benchmark)
        case InstanceBenchmark() | GalleryBenchmark() as benchmark:
            yield from _evaluate_instances(clip, benchmark, config)


def _evaluate_by_prompts(
    clip: Bundle, benchmark: FrameSetBenchmark | ActionBenchmark | LexiconBenchmark, config: EvaluateConfig
) -> TaskResult:
    prompts = resolve_prompts(benchmark, config.prompts, clip.templates)
    match benchmark:
        case FrameSetBenchmark():
            return evaluate_frame_sets(clip, benchmark, prompts)
        case ActionBenchmark():
            return evaluate_actions(clip, benchmark, prompts, config.seed)
        case LexiconBenchmark():
            return evaluate_lexicons(clip, benchmark, prompts)


def _count_reads(benchmark: CountedBenchmark, progress: ProgressCallback, label: str = "") -> CountedBenchmark:
    """Return the dataset with a source that reports the images that are read, under its name and a label."""
    name = f"{benchmark.name} {label}".rstrip()
    return replace(benchmark, source=count_reads(benchmark.source, lambda done, total: progress(done, total, name)))


def _load_training_splits(
    dataset: str, benchmark: LabeledBenchmark, config: EvaluateConfig, progress: ProgressCallback
) -> TrainingSplits[LabeledBenchmark] | None:
    """Load the splits for a probe, whose images are reported as they are read."""
    splits = load_training_splits(dataset, benchmark, config.split, config.data_root)
    if splits is None:
        return None
    validation = splits.validation and _count_reads(
        select_frames(splits.validation, config.frames), progress, "validation split"
    )
    train = _count_reads(select_frames(splits.train, config.frames), progress, "training split")
    return replace(splits, train=train, validation=validation)


def _evaluate_classification(
    clip: Bundle, benchmark: ClassificationBenchmark, dataset: str, config: EvaluateConfig, progress: ProgressCallback
) -> Iterator[TaskResult]:
    if has_languages(config.prompts):
        if "zero-shot" in config.tasks:
            yield from evaluate_zero_shot_by_language(clip, benchmark, config.prompts, config.languages)
        others = tuple(task for task in config.tasks if task not in ("zero-shot", "prompts"))
        if not others:
            return
        config = replace(config, tasks=others, prompts="dataset")
    tasks, prompts = config.tasks, resolve_prompts_if_needed(benchmark, config, clip.templates)
    has_probes = "linear-probe" in tasks or "few-shot" in tasks
    if has_probes:
        embed_features_and_vectors(clip, benchmark.source)  # into the cache, from one pass for all tasks
    if "zero-shot" in tasks or "prompts" in tasks:
        all_prompts, *ablations = evaluate_zero_shot(clip, benchmark, prompts).task_results()
        yield from [all_prompts] if "zero-shot" in tasks else []
        yield from ablations if "prompts" in tasks else []
    if "prompt-search" in tasks:
        yield evaluate_prompt_search(clip, benchmark, prompts, config.seed)
    if has_probes:
        splits = _load_training_splits(dataset, benchmark, config, progress)
        shots = config.shots if "few-shot" in tasks else ()
        probes = evaluate_probes(clip, benchmark, splits, prompts, shots, config.repeats, config.seed)
        yield from [probes.linear_probe()] if "linear-probe" in tasks else []
        yield from probes.few_shot()
    if "image-retrieval" in tasks:
        yield from _evaluate_if_suitable(benchmark.name, lambda: evaluate_image_retrieval(clip, benchmark))
    if "clustering" in tasks:
        yield from _evaluate_if_suitable(benchmark.name, lambda: evaluate_clustering(clip, benchmark))
    if "calibration" in tasks:
        yield from _evaluate_if_suitable(
            benchmark.name, lambda: evaluate_calibration(clip, benchmark, prompts, config.seed)
        )
    for unknown in load_ood_datasets(config):
        yield evaluate_ood(clip, benchmark, prompts, _count_reads(select_frames(unknown, config.frames), progress))


def _evaluate_if_suitable(dataset: str, evaluate: Callable[[], TaskResult]) -> Iterator[TaskResult]:
    """Yield the result of a task; warn instead if the dataset has too few images or classes for it."""
    try:
        yield evaluate()
    except UnsuitableDataset as error:
        warnings.warn(f"{dataset}: left out a task: {error}", stacklevel=2)


def _evaluate_instances(
    clip: Bundle, benchmark: InstanceBenchmark | GalleryBenchmark, config: EvaluateConfig
) -> Iterator[TaskResult]:
    if not IMAGE_RETRIEVAL_TASKS.isdisjoint(config.tasks):
        yield from _evaluate_if_suitable(benchmark.name, lambda: evaluate_image_retrieval(clip, benchmark))
    if "clustering" in config.tasks and isinstance(benchmark, InstanceBenchmark):
        yield from _evaluate_if_suitable(benchmark.name, lambda: evaluate_clustering(clip, benchmark))


def _evaluate_multilabel(
    clip: Bundle, benchmark: MultilabelBenchmark, dataset: str, config: EvaluateConfig, progress: ProgressCallback
) -> Iterator[TaskResult]:
    if "linear-probe" in config.tasks:
        embed_features_and_vectors(clip, benchmark.source)  # into the cache, from one pass for all tasks
    if "zero-shot" in config.tasks:
        prompts = resolve_prompts_if_needed(benchmark, config, clip.templates)
        yield evaluate_zero_shot_multilabel(clip, benchmark, prompts)
    if "linear-probe" in config.tasks:
        splits = _load_training_splits(dataset, benchmark, config, progress)
        yield evaluate_multilabel_probe(clip, benchmark, splits, config.seed)


def resolve_prompts_if_needed(
    benchmark: PromptedBenchmark, config: EvaluateConfig, model_templates: Sequence[str]
) -> PromptSet:
    """Return the requested prompts, or the dataset's own if no task needs prompts: a probe is not to fail on them."""
    needs_prompts = not PROMPT_TASKS.isdisjoint(config.tasks)
    return resolve_prompts(benchmark, config.prompts if needs_prompts else "dataset", model_templates)
