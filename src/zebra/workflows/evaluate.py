"""`zebra evaluate`: score one model on datasets, and write results and a report.

The image encoder runs once per image for all tasks (`evaluators/embeddings.py`); the protocols work on vectors.
"""

import time
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from zebra.config.evaluate import EvaluateConfig
from zebra.data.benchmarks.tasks import AnyBenchmark, ClassificationBenchmark, MultilabelBenchmark
from zebra.errors import ConfigError, DataError, DownloadError, ZebraError
from zebra.evaluators.datasets import load_dataset
from zebra.evaluators.limitations import LIMITATIONS, list_limitation_datasets
from zebra.evaluators.results import TaskResult, create_out_dir, save_results, to_metrics
from zebra.evaluators.results_io import EvalMetrics, collect_provenance, read_predictions
from zebra.evaluators.run_tasks import ProgressCallback, evaluate_dataset, resolve_prompts_if_needed
from zebra.evaluators.unfinished import UnfinishedEvaluation
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.load import load
from zebra.pretrained.shared_cores import share_cores
from zebra.text.templates import DEFAULT_TEMPLATES


@share_cores()
def run(
    config: EvaluateConfig,
    *,
    callback: Callable[[TaskResult], None] = lambda _result: None,
    progress: ProgressCallback = lambda _done, _total, _dataset: None,
) -> EvalMetrics:
    """Evaluate and write `out/metrics.json`, `out/results.jsonl`, `out/predictions/` and `out/report.html`.

    The results on each dataset are written when it is finished. If a dataset cannot be evaluated, the others are, and
    the error follows at the end. The same evaluation, run again after an error or an interruption, continues with the
    datasets that are not finished.

    Args:
        config: Model, datasets and tasks.
        callback: Called with each result.
        progress: Called while images are encoded, unless their vectors are cached.

    Raises:
        WeightsError: The model is incomplete.
        DataError: A dataset is incomplete, damaged or not suitable for a task. No dataset is scored in part.
        DownloadError: A dataset of the hub is neither reachable nor cached.
        ConfigError: Two datasets have the same name, or no task is possible on any dataset.
    """
    out_dir = create_out_dir(config.out)
    names, benchmarks = _load_benchmarks(config)
    digests = [_hash_benchmark(benchmark, config) for benchmark in benchmarks]
    clip = load(config.model, precision=config.precision, device=config.device)
    unfinished = UnfinishedEvaluation(out_dir, _identify(config, clip))
    if unfinished.datasets:
        finished = ", ".join(unfinished.datasets)
        warnings.warn(f"continuing the unfinished evaluation in {out_dir}; finished: {finished}", stacklevel=2)
    results: list[TaskResult] = []
    errors: dict[str, ZebraError] = {}
    for name, benchmark, digest in zip(names, benchmarks, digests, strict=True):
        done = unfinished.find(benchmark.name, digest)
        if done is not None:
            done = [_add_predictions(result, out_dir) for result in done]
            for result in done:
                callback(result)
        else:
            done, error = _evaluate_completely(clip, benchmark, name, config, callback, progress)
            if done:
                save_results(out_dir, clip, config.model, done, split=config.split, seed=config.seed)
            if error is None:
                unfinished.add(benchmark.name, digest, done)
            else:
                errors[name] = error
                if len(names) > 1:  # the error follows after the other datasets
                    warnings.warn(f"left out {_describe_error(name, error)}", stacklevel=2)
        results += done
    if results:
        _write_reports(config, clip, benchmarks, results)
    if errors:
        raise _summarize_errors(errors, len(names), config.out)
    unfinished.finish()
    if not results:
        raise ConfigError(
            f"none of the tasks {', '.join(config.tasks)} is possible on any of the datasets. Datasets with labels "
            "take zero-shot, prompts, prompt-search, linear-probe and few-shot; datasets with captions take "
            "retrieval; benchmarks with questions, such as SugarCrepe, take compositionality."
        )
    return to_metrics(results)


def _load_benchmarks(config: EvaluateConfig) -> tuple[tuple[str, ...], list[AnyBenchmark]]:
    """Return the names of the datasets as the user gave them, and the datasets."""
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
    return names, benchmarks


def _write_reports(
    config: EvaluateConfig, clip: Bundle, benchmarks: Sequence[AnyBenchmark], results: Sequence[TaskResult]
) -> None:
    from zebra.report.evaluation import write_evaluation_report  # importing matplotlib takes a second
    from zebra.report.score_table import to_rows, write_score_table

    sources = {benchmark.name: benchmark.source for benchmark in benchmarks}
    write_evaluation_report(Path(config.out) / "report.html", clip, config.model, results, sources)
    if config.table is not None:
        write_score_table(config.table, [config.model], to_rows(results))


def _evaluate_completely(
    clip: Bundle,
    benchmark: AnyBenchmark,
    name: str,
    config: EvaluateConfig,
    callback: Callable[[TaskResult], None],
    progress: ProgressCallback,
) -> tuple[list[TaskResult], ZebraError | None]:
    """Return the results of all tasks on a dataset, or those before an error and the error."""
    results: list[TaskResult] = []
    start = time.perf_counter()
    try:
        for result in evaluate_dataset(clip, benchmark, name, config, progress):
            results.append(replace(result, seconds=round(time.perf_counter() - start, 3)))
            callback(results[-1])
            start = time.perf_counter()
    except (DataError, DownloadError) as error:
        return results, error
    return results, None


def _add_predictions(result: TaskResult, out_dir: Path) -> TaskResult:
    """Add the predictions of a finished task, which an earlier run has saved."""
    return replace(result, predictions=read_predictions(out_dir / "predictions", result.dataset, result.task))


def _identify(config: EvaluateConfig, clip: Bundle) -> dict[str, Any]:
    """Return what determines the results, apart from the datasets."""
    settings = {key: value for key, value in asdict(config).items() if key not in ("model", "datasets", "out", "table")}
    provenance = collect_provenance(config.seed)
    model = {
        "fingerprint": clip.fingerprint,
        "templates": list(clip.templates),
        "precision": clip.precision,
        "backend": clip.backend,
    }
    return settings | model | {"versions": provenance["versions"]}


def _hash_benchmark(benchmark: AnyBenchmark, config: EvaluateConfig) -> str:
    """Return a digest of the data and of the prompts; a file of prompts may change between two runs."""
    if not isinstance(benchmark, ClassificationBenchmark | MultilabelBenchmark):
        return benchmark.source.digest
    prompts = resolve_prompts_if_needed(benchmark, config, DEFAULT_TEMPLATES)
    return f"{benchmark.source.digest} {prompts.hash}"


def _describe_error(name: str, error: ZebraError) -> str:
    return str(error) if name in str(error) else f"{name}: {error}"


def _summarize_errors(errors: Mapping[str, ZebraError], num_datasets: int, out: str) -> ZebraError:
    first = next(iter(errors.values()))
    if num_datasets == 1:
        return first
    causes = "\n".join(f"  {_describe_error(name, error)}" for name, error in errors.items())
    return DataError(
        f"{len(errors)} of {num_datasets} datasets could not be evaluated:\n{causes}\nThe scores on the others are in "
        f"{out}. Repair the datasets and run the same command again: it evaluates only what is missing."
    )
