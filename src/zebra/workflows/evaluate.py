"""`zebra evaluate`: a model and data sets in; scores with intervals, predictions and a report out.

Pictures pass the image tower once, whatever is measured (`embeddings.py`); everything after that works on vectors.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from zebra.config.evaluate import EvaluateConfig
from zebra.data.benchmarks.tasks import (
    AnyBenchmark,
    ClassificationBenchmark,
    CompositionalityBenchmark,
    MultilabelBenchmark,
    RetrievalBenchmark,
)
from zebra.errors import ConfigError
from zebra.evaluators.datasets import load_dataset
from zebra.evaluators.embeddings import embed_source
from zebra.evaluators.limitations import LIMITATIONS as LIMITS
from zebra.evaluators.limitations import list_limitation_datasets
from zebra.evaluators.linear_probe import evaluate_multilabel_probe, evaluate_probes, load_train_split
from zebra.evaluators.results import TaskResult, create_out_dir, save_results
from zebra.evaluators.results_io import EvalMetrics
from zebra.evaluators.zero_shot import (
    evaluate_prompt_search,
    evaluate_zero_shot,
    evaluate_zero_shot_multilabel,
    resolve_prompts,
)
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.load import load
from zebra.protocols.compositionality import evaluate_sugarcrepe, evaluate_winoground
from zebra.protocols.retrieval import compute_retrieval_ranks
from zebra.values import Embeddings


def run(
    config: EvaluateConfig, *, callback: Callable[[TaskResult], None] = lambda _outcome: None
) -> EvalMetrics:
    """Evaluate and write `out/metrics.json`, `out/results.jsonl`, `out/predictions/` and `out/report.html`.

    Raises:
        WeightsError: The model is not whole.
        DataError: A set is incomplete or damaged, or does not suit what is asked; a subset is never scored in silence.
        ConfigError: No task suits any of the sets.
    """
    out = create_out_dir(config.out)
    names = tuple(
        name
        for told in config.datasets
        for name in (list_limitation_datasets(config.data_root) if told == LIMITS else (told,))
    )
    sets = [load_dataset(name, config.split, config.data_root) for name in names]
    repeated = [name for name, count in Counter(benchmark.name for benchmark in sets).items() if count > 1]
    if repeated:
        raise ConfigError(
            f"two of the data sets are called {repeated[0]}, and their scores would take each other's place; "
            "evaluate them one by one, or rename a folder"
        )
    clip = load(config.model, precision=config.precision)
    outcomes: list[TaskResult] = []
    for name, benchmark in zip(names, sets, strict=True):
        began = time.perf_counter()
        for measured in evaluate_dataset(clip, benchmark, name, config):
            outcomes.append(replace(measured, seconds=round(time.perf_counter() - began, 3)))
            callback(outcomes[-1])
            began = time.perf_counter()
    if not outcomes:
        raise ConfigError(
            f"none of the tasks {', '.join(config.tasks)} suits any of the sets; labelled sets take zero-shot, "
            "prompts, prompt-search, linear-probe and few-shot, captioned ones retrieval, others compositionality"
        )
    metrics = save_results(out, clip, config.model, outcomes, split=config.split, seed=config.seed)
    from zebra.report.evaluation import write_evaluation_report  # matplotlib takes a second to import

    write_evaluation_report(out / "report.html", clip, config.model, outcomes)
    return metrics


def evaluate_dataset(
    clip: Bundle, benchmark: AnyBenchmark, dataset: str, config: EvaluateConfig
) -> Iterator[TaskResult]:
    """Measure what was asked for and suits a set."""
    tasks = config.tasks
    match benchmark:
        case ClassificationBenchmark():
            prompts = resolve_prompts(benchmark, config.prompts)
            if "zero-shot" in tasks or "prompts" in tasks:
                ensemble, *rungs = evaluate_zero_shot(clip, benchmark, prompts).task_results()
                yield from [ensemble] if "zero-shot" in tasks else []
                yield from rungs if "prompts" in tasks else []
            if "prompt-search" in tasks:
                yield evaluate_prompt_search(clip, benchmark, prompts, config.seed)
            if "linear-probe" in tasks or "few-shot" in tasks:
                train = load_train_split(dataset, benchmark, config)
                probed = evaluate_probes(
                    clip, benchmark, train, prompts, config.shots, config.repeats, config.seed
                )
                yield from [probed.linear_probe()] if "linear-probe" in tasks else []
                yield from probed.few_shot() if "few-shot" in tasks else []
        case MultilabelBenchmark():
            if "zero-shot" in tasks:
                yield evaluate_zero_shot_multilabel(
                    clip, benchmark, resolve_prompts(benchmark, config.prompts)
                )
            if "linear-probe" in tasks:
                yield evaluate_multilabel_probe(
                    clip, benchmark, load_train_split(dataset, benchmark, config), config.seed
                )
        case RetrievalBenchmark():
            if "retrieval" in tasks:
                yield evaluate_retrieval(clip, benchmark, config.caption_prefix)
        case CompositionalityBenchmark():
            if "compositionality" in tasks:
                yield evaluate_compositionality(clip, benchmark)


def evaluate_retrieval(clip: Bundle, benchmark: RetrievalBenchmark, caption_prefix: str) -> TaskResult:
    """Find captions by pictures and pictures by captions."""
    images = embed_source(clip, benchmark.source)
    said = [benchmark.source.read(index).captions for index in range(len(benchmark.source))]
    owner_M = np.repeat(np.arange(len(said)), [len(captions) for captions in said])
    ids = tuple(f"{images.ids[n]}#{k}" for n, captions in enumerate(said) for k in range(len(captions)))
    vectors = clip.encode_texts(
        [caption_prefix + caption for captions in said for caption in captions]
    ).numpy()
    found = compute_retrieval_ranks(images, Embeddings(vectors, ids, fingerprint=clip.fingerprint), owner_M)
    repeated = (
        [f"{found.num_ambiguous_captions} captions stand with several pictures"]
        if found.num_ambiguous_captions
        else []
    )
    notes = (*benchmark.notes, f"captions begin with {caption_prefix!r}", *repeated)
    return TaskResult(benchmark.name, "retrieval", found.scores(), benchmark.source.digest, notes=notes)


def evaluate_compositionality(clip: Bundle, benchmark: CompositionalityBenchmark) -> TaskResult:
    """Choose between captions that differ in a detail."""
    image_NE = embed_source(clip, benchmark.source).vectors
    first, second = (
        clip.encode_texts([question.captions[side] for question in benchmark.questions]).numpy()
        for side in (0, 1)
    )
    pictures = np.array([question.image_indices for question in benchmark.questions])
    if pictures.shape[1] == 1:
        categories = [question.category for question in benchmark.questions]
        scores = evaluate_sugarcrepe(image_NE[pictures[:, 0]], first, second, categories).scores()
    else:
        scores = evaluate_winoground(image_NE[pictures], np.stack([first, second], axis=1)).scores()
    return TaskResult(
        benchmark.name, "compositionality", scores, benchmark.source.digest, notes=benchmark.notes
    )
