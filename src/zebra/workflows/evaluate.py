"""`zebra evaluate`: score one model on datasets, and write results and a report.

The image encoder runs once per image for all tasks (`evaluators/embeddings.py`); the protocols work on vectors.
"""

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from zebra.config.cores import usable_cores
from zebra.config.evaluate import EvaluateConfig
from zebra.config.score_table import find_table_format
from zebra.data.benchmarks.tasks import ClassificationBenchmark, PromptedBenchmark
from zebra.distributed import ProcessGroup, init_distributed
from zebra.engines import open_engine
from zebra.engines.ray import require_ray
from zebra.errors import ConfigError, DataError, DownloadError, ZebraError
from zebra.evaluators.ood import load_ood_datasets
from zebra.evaluators.parallel import embed_in_processes, embed_on_cluster, list_needed_shards
from zebra.evaluators.results import TaskResult, create_out_dir, save_results, to_metrics, to_records
from zebra.evaluators.results_io import (
    RESULTS_FILENAME,
    EvalMetrics,
    collect_provenance,
    read_predictions,
    read_results,
)
from zebra.evaluators.run_tasks import ProgressCallback, evaluate_dataset, resolve_prompts_if_needed
from zebra.evaluators.suite_datasets import RequestedDataset, RequestedDatasets, load_requested_datasets
from zebra.evaluators.suite_results import SuiteResult, collect_suite_results, write_suites
from zebra.evaluators.unfinished import UnfinishedEvaluation
from zebra.evaluators.zero_shot_languages import hash_prompts_by_language
from zebra.file_lock import lock_folder
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.load import load
from zebra.pretrained.shared_cores import share_cores
from zebra.protocols.language_prompts import has_languages
from zebra.text.templates import DEFAULT_TEMPLATES

RANK_TIMEOUT = 1800.0
"""Seconds that a process waits for the shard of another one, or for the scores of rank 0."""


@share_cores()
def run(
    config: EvaluateConfig,
    *,
    callback: Callable[[TaskResult], None] = lambda _result: None,
    suite_callback: Callable[[SuiteResult], None] = lambda _result: None,
    progress: ProgressCallback = lambda _done, _total, _dataset: None,
) -> EvalMetrics:
    """Evaluate and write `out/metrics.json`, `out/results.jsonl`, `out/predictions/` and `out/report.html`.

    The results on each dataset are written when it is finished. If a dataset cannot be evaluated, the others are, and
    the error follows at the end. The same evaluation, run again after an error or an interruption, continues with the
    datasets that are not finished. A suite is evaluated on those of its datasets that are available; `out/suites.json`
    has its number, and `out/card.md` is the model's card.

    Of several processes that torchrun started, all embed images; rank 0 computes and returns the scores, and the
    others return none.

    Args:
        config: Model, datasets and tasks.
        callback: Called with each result.
        suite_callback: Called with the result of each suite, after those of the datasets.
        progress: Called while images are encoded, unless their vectors are cached.

    Raises:
        WeightsError: The model is incomplete.
        DataError: A dataset is incomplete, damaged or not suitable for a task. No dataset is scored in part.
        DownloadError: A dataset of the hub is neither reachable nor cached.
        ConfigError: Another process writes to `out`, two datasets have the same name, there is no such suite, or no
            task is possible on any dataset.
        RankError: A process that torchrun started did not connect.
        MissingExtra: `engine` is "ray", and Ray is not installed.
    """
    if config.engine == "ray":
        require_ray("zebra evaluate --engine ray")
    with init_distributed(RANK_TIMEOUT) as group:
        out_dir = create_out_dir(config.out)
        with lock_folder(out_dir, out_dir / ".lock") if group.is_main_process else nullcontext():
            return _run(config, group, callback, suite_callback, progress)


def _run(
    config: EvaluateConfig,
    group: ProcessGroup,
    callback: Callable[[TaskResult], None],
    suite_callback: Callable[[SuiteResult], None],
    progress: ProgressCallback,
) -> EvalMetrics:
    if config.ood_datasets and "ood" not in config.tasks:
        raise ConfigError("--ood-datasets is for the task ood only. Add it to --tasks, or leave the flag out")
    out_dir = Path(config.out)
    earlier = read_results(out_dir / RESULTS_FILENAME) if (out_dir / RESULTS_FILENAME).exists() else []
    requested = load_requested_datasets(config)
    digests = [_hash_dataset(dataset) for dataset in requested.datasets]
    clip = load(config.model, precision=config.precision, device=_local_device(config.device, group))
    _embed_in_parallel(clip, config, requested, group, progress)
    if not group.is_main_process:
        return {}
    if group.world_size > 1:  # torchrun gives each process one thread; this one goes on alone
        torch.set_num_threads(usable_cores())
    unfinished = UnfinishedEvaluation(out_dir, _identify(config, clip))
    if unfinished.datasets:
        finished = ", ".join(unfinished.datasets)
        warnings.warn(f"continuing the unfinished evaluation in {out_dir}; finished: {finished}", stacklevel=2)
    results, errors = _evaluate_datasets(clip, config, requested, digests, unfinished, callback, progress)
    suite_results = collect_suite_results(requested, results, errors, earlier)
    if results:
        _write_reports(config, clip, requested, results, suite_results)
    for suite_result in suite_results:
        suite_callback(suite_result)
    if errors:
        raise _summarize_errors(errors, len(requested.datasets) + len(requested.errors), config.out)
    unfinished.finish()
    _require_results(results, config)
    return to_metrics(results)


def _evaluate_datasets(
    clip: Bundle,
    config: EvaluateConfig,
    requested: RequestedDatasets,
    digests: Sequence[str],
    unfinished: UnfinishedEvaluation,
    callback: Callable[[TaskResult], None],
    progress: ProgressCallback,
) -> tuple[list[TaskResult], dict[str, ZebraError]]:
    """Return the results on the datasets, and the errors of those that could not be evaluated completely."""
    out_dir = Path(config.out)
    results: list[TaskResult] = []
    errors: dict[str, ZebraError] = dict(requested.errors)
    num_datasets = len(requested.datasets) + len(errors)
    for name, error in requested.errors.items():
        _warn_left_out(name, error)
    for dataset, digest in zip(requested.datasets, digests, strict=True):
        name = dataset.benchmark.name
        done = _find_finished(unfinished, name, digest, out_dir, callback)
        if done is None:
            done, failure = _evaluate_completely(clip, dataset, callback, progress)
            if done:
                save_results(out_dir, clip, config.model, done, split=dataset.config.split, seed=config.seed)
            if failure is None:
                unfinished.add(name, digest, done)
            else:
                errors[name] = failure
                if num_datasets > 1:  # the error follows after the other datasets
                    _warn_left_out(name, failure)
        results += done
    return results, errors


def _local_device(device: str, group: ProcessGroup) -> str:
    """Return the device of this process: with several processes and GPUs, one each."""
    if group.world_size > 1 and device in ("auto", "cuda") and torch.cuda.is_available():
        return f"cuda:{torch.cuda.current_device()}"  # init_distributed has set it
    return device


def _embed_in_parallel(
    clip: Bundle, config: EvaluateConfig, requested: RequestedDatasets, group: ProcessGroup, progress: ProgressCallback
) -> None:
    """With several processes, compute the vectors that are not cached in all of them."""
    if group.world_size == 1 and config.engine == "threads":
        return
    shards = list_needed_shards(requested.datasets)

    def show(done: int, total: int) -> None:
        progress(done, total, "shards of all datasets")

    if config.engine == "threads":
        embed_in_processes(clip, shards, group, show)
        return
    with open_engine("ray", config.workers) as engine:
        embed_on_cluster(clip, config.model, shards, engine, show)


def _require_results(results: Sequence[TaskResult], config: EvaluateConfig) -> None:
    if not results:
        raise ConfigError(
            f"none of the tasks {', '.join(config.tasks)} is possible on any of the datasets. Datasets with labels "
            "take all but retrieval and compositionality; datasets with captions take retrieval; benchmarks with "
            "questions, such as SugarCrepe, take compositionality; datasets of instances take image-retrieval and "
            "clustering."
        )


def _warn_left_out(name: str, error: ZebraError) -> None:
    warnings.warn(f"left out {_describe_error(name, error)}", stacklevel=3)


def _write_reports(
    config: EvaluateConfig,
    clip: Bundle,
    requested: RequestedDatasets,
    results: Sequence[TaskResult],
    suite_results: Sequence[SuiteResult],
) -> None:
    from zebra.report.card import write_card
    from zebra.report.evaluation import write_evaluation_report  # importing matplotlib takes a second
    from zebra.report.hub_card import format_front_matter
    from zebra.report.score_table import to_rows, write_score_table

    sources = {dataset.benchmark.name: dataset.benchmark.source for dataset in requested.datasets}
    splits = {dataset.benchmark.name: dataset.config.split for dataset in requested.datasets}
    rows = to_rows(
        record
        for result in results
        for record in to_records(result, {"split": splits.get(result.dataset, config.split)})
    )
    write_evaluation_report(Path(config.out) / "report.html", clip, config.model, results, sources, suite_results)
    if suite_results:
        write_suites(Path(config.out), suite_results)
        front_matter = format_front_matter([config.model], rows)
        write_card(Path(config.out), clip, config.model, suite_results, front_matter=front_matter, seed=config.seed)
    if config.table is not None:
        write_score_table(config.table, find_table_format(config.table, config.format), [config.model], rows)


def _evaluate_completely(
    clip: Bundle, dataset: RequestedDataset, callback: Callable[[TaskResult], None], progress: ProgressCallback
) -> tuple[list[TaskResult], ZebraError | None]:
    """Return the results of all tasks on a dataset, or those before an error and the error."""
    results: list[TaskResult] = []
    start = time.perf_counter()
    try:
        for result in evaluate_dataset(clip, dataset.benchmark, dataset.argument, dataset.config, progress):
            results.append(replace(result, seconds=round(time.perf_counter() - start, 3)))
            callback(results[-1])
            start = time.perf_counter()
    except (DataError, DownloadError) as error:
        return results, error
    return results, None


def _find_finished(
    unfinished: UnfinishedEvaluation, name: str, digest: str, out_dir: Path, callback: Callable[[TaskResult], None]
) -> list[TaskResult] | None:
    """Return the results of a dataset that an earlier run has finished, with the predictions that it saved, or None."""
    results = unfinished.find(name, digest)
    if results is None:
        return None
    predictions = [read_predictions(out_dir / "predictions", name, result.task) for result in results]
    results = [replace(result, predictions=table) for result, table in zip(results, predictions, strict=True)]
    for result in results:
        callback(result)
    return results


def _identify(config: EvaluateConfig, clip: Bundle) -> dict[str, Any]:
    """Return what determines the results, apart from the datasets."""
    others = ("model", "datasets", "split", "tasks", "out", "table", "format", "engine", "workers")
    # each dataset has a split and tasks of its own
    settings = {key: value for key, value in asdict(config).items() if key not in others}
    provenance = collect_provenance(config.seed)
    model = {
        "fingerprint": clip.fingerprint,
        "templates": list(clip.templates),
        "precision": clip.precision,
        "backend": clip.backend,
    }
    return settings | model | {"versions": provenance["versions"]}


def _hash_dataset(dataset: RequestedDataset) -> str:
    """Return a digest of the data, the tasks, the prompts and the unknown images; these may change between two runs."""
    benchmark, config = dataset.benchmark, dataset.config
    digest = f"{benchmark.source.digest} {config.split} {','.join(config.tasks)}"
    if not isinstance(benchmark, PromptedBenchmark):
        return digest
    if isinstance(benchmark, ClassificationBenchmark) and has_languages(config.prompts):
        return f"{digest} {hash_prompts_by_language(benchmark, config.prompts, DEFAULT_TEMPLATES)}"
    prompts = resolve_prompts_if_needed(benchmark, config, DEFAULT_TEMPLATES)
    unknown = "".join(f" {unknown.source.digest}" for unknown in load_ood_datasets(config))
    return f"{digest} {prompts.hash}{unknown}"


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
