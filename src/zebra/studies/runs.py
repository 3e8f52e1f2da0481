"""Scores and predictions of the runs that a study compares."""

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

import pyarrow as pa

from zebra.data.benchmarks.catalog import load_catalog
from zebra.errors import DataError, suggest_name
from zebra.evaluators.results_io import ResultRecord, predictions_path, read_latest_results, read_predictions
from zebra.values import Score

ZERO_SHOT_TASK = "zero-shot"
PRIMARY_METRIC = "top1"


def load_predictions(run_dir: Path, dataset: str, task: str = ZERO_SHOT_TASK) -> pa.Table:
    """Read a run's predictions on a dataset.

    Raises:
        DataError: The run has none.
    """
    predictions_dir = run_dir / "predictions"
    predictions = read_predictions(predictions_dir, dataset, task)
    if predictions is None:
        raise DataError(
            f"no predictions at {predictions_path(predictions_dir, dataset, task)}. "
            f"Run: zebra evaluate MODEL {dataset} --out {run_dir}"
        )
    return predictions


def load_top1_scores(run_dir: Path) -> dict[str, Score]:
    """Read a run's zero-shot top-1 score on each dataset."""
    records = read_latest_results(run_dir).items()
    return {
        dataset: record.score
        for (dataset, task, metric), record in records
        if (task, metric) == (ZERO_SHOT_TASK, PRIMARY_METRIC)
    }


def load_primary_scores(run_dir: Path, task: str) -> dict[str, Score]:
    """Read a run's primary score of a task on each dataset.

    The primary metric is that of the catalog; for other datasets top-1 accuracy, or mAP with several labels per image.
    """
    scores: dict[str, dict[str, Score]] = {}
    for (dataset, record_task, metric), record in read_latest_results(run_dir).items():
        if record_task == task:
            scores.setdefault(dataset, {})[metric] = record.score
    primary = {}
    for dataset, by_metric in scores.items():
        entry = load_catalog().get(dataset)
        metrics = (entry.metric if entry else "", PRIMARY_METRIC, "map")
        if found := [metric for metric in metrics if metric in by_metric]:
            primary[dataset] = by_metric[found[0]]
    return primary


def load_task_records(run_dir: Path, metric: str = PRIMARY_METRIC) -> dict[str, dict[str, ResultRecord]]:
    """Read a run's results as dataset → task → result of one metric."""
    records: dict[str, dict[str, ResultRecord]] = {}
    for (dataset, task, record_metric), record in read_latest_results(run_dir).items():
        if record_metric == metric:
            records.setdefault(dataset, {})[task] = record
    return records


def select_datasets(available: Collection[str], requested: Sequence[str], needed: str) -> list[str]:
    """Return the requested datasets, by default all that are available, sorted.

    Args:
        available: Names of the datasets that have what the study needs.
        needed: What that is, and how to get it, for the message.

    Raises:
        DataError: None is available, or a requested one is not.
    """
    if missing := [name for name in requested if name not in available]:
        raise DataError(f"{missing[0]!r} has no {needed}{suggest_name(missing[0], available)}")
    if not available:
        raise DataError(f"no dataset has {needed}")
    return list(dict.fromkeys(requested)) or sorted(available)


def shorten_run_names(run_dirs: Sequence[Path]) -> dict[Path, str]:
    """Name each run by its directory, or by its full path if two directories have the same name.

    Raises:
        DataError: A run is given twice.
    """
    if duplicates := [path for path, count in Counter(run_dirs).items() if count > 1]:
        raise DataError(f"the run {duplicates[0]} is given twice. Give each run once.")
    counts = Counter(path.resolve().name for path in run_dirs)
    return {path: path.resolve().name if counts[path.resolve().name] == 1 else str(path) for path in run_dirs}
