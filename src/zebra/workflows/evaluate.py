"""`zebra evaluate`: score one model on datasets, and write results and a report.

The image encoder runs once per image for all tasks (`evaluators/embeddings.py`); the protocols work on vectors.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace

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
from zebra.evaluators.limitations import LIMITATIONS, list_limitation_datasets
from zebra.evaluators.linear_probe import evaluate_multilabel_probe, evaluate_probes, load_train_split
from zebra.evaluators.results import TaskResult, create_out_dir, save_results
from zebra.evaluators.results_io import EvalMetrics
from zebra.evaluators.retrieval import evaluate_compositionality, evaluate_retrieval
from zebra.evaluators.zero_shot import (
    evaluate_prompt_search,
    evaluate_zero_shot,
    evaluate_zero_shot_multilabel,
    resolve_prompts,
)
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.load import load


def run(config: EvaluateConfig, *, callback: Callable[[TaskResult], None] = lambda _result: None) -> EvalMetrics:
    """Evaluate and write `out/metrics.json`, `out/results.jsonl`, `out/predictions/` and `out/report.html`.

    Args:
        config: Model, datasets and tasks.
        callback: Called with each result.

    Raises:
        WeightsError: The model is incomplete.
        DataError: A dataset is incomplete, damaged or not suitable for a task. No dataset is scored in part.
        ConfigError: Two datasets have the same name, or no task is possible on any dataset.
    """
    out_dir = create_out_dir(config.out)
    names = tuple(
        name
        for dataset in config.datasets
        for name in (list_limitation_datasets(config.data_root) if dataset == LIMITATIONS else (dataset,))
    )
    benchmarks = [load_dataset(name, config.split, config.data_root) for name in names]
    counts = Counter(benchmark.name for benchmark in benchmarks)
    if duplicates := [name for name, count in counts.items() if count > 1]:
        raise ConfigError(
            f"two datasets have the name {duplicates[0]!r}, which identifies their scores. Rename a folder, or "
            "evaluate them one by one."
        )
    clip = load(config.model, precision=config.precision)
    results: list[TaskResult] = []
    for name, benchmark in zip(names, benchmarks, strict=True):
        start = time.perf_counter()
        for result in evaluate_dataset(clip, benchmark, name, config):
            results.append(replace(result, seconds=round(time.perf_counter() - start, 3)))
            callback(results[-1])
            start = time.perf_counter()
    if not results:
        raise ConfigError(
            f"none of the tasks {', '.join(config.tasks)} is possible on any of the datasets. Datasets with labels "
            "take zero-shot, prompts, prompt-search, linear-probe and few-shot; datasets with captions take "
            "retrieval; SugarCrepe and Winoground take compositionality."
        )
    metrics = save_results(out_dir, clip, config.model, results, split=config.split, seed=config.seed)
    from zebra.report.evaluation import write_evaluation_report  # importing matplotlib takes a second

    write_evaluation_report(out_dir / "report.html", clip, config.model, results)
    return metrics


def evaluate_dataset(
    clip: Bundle, benchmark: AnyBenchmark, dataset: str, config: EvaluateConfig
) -> Iterator[TaskResult]:
    """Yield the results of all requested tasks that are possible on a dataset."""
    tasks = config.tasks
    match benchmark:
        case ClassificationBenchmark():
            needs_prompts = not {"zero-shot", "prompts", "prompt-search", "few-shot"}.isdisjoint(tasks)
            prompts = resolve_prompts(benchmark, config.prompts if needs_prompts else "dataset")
            if "zero-shot" in tasks or "prompts" in tasks:
                all_prompts, *ablations = evaluate_zero_shot(clip, benchmark, prompts).task_results()
                yield from [all_prompts] if "zero-shot" in tasks else []
                yield from ablations if "prompts" in tasks else []
            if "prompt-search" in tasks:
                yield evaluate_prompt_search(clip, benchmark, prompts, config.seed)
            if "linear-probe" in tasks or "few-shot" in tasks:
                train = load_train_split(dataset, benchmark, config)
                probes = evaluate_probes(clip, benchmark, train, prompts, config.shots, config.repeats, config.seed)
                yield from [probes.linear_probe()] if "linear-probe" in tasks else []
                yield from probes.few_shot() if "few-shot" in tasks else []
        case MultilabelBenchmark():
            if "zero-shot" in tasks:
                yield evaluate_zero_shot_multilabel(clip, benchmark, resolve_prompts(benchmark, config.prompts))
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
