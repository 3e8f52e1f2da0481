"""Scores and predictions of the runs that a study compares."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from zebra.errors import DataError
from zebra.evaluators.results_io import predictions_path, read_latest_results, read_predictions
from zebra.values import Score

ZERO_SHOT_TASK = "zero-shot"
PRIMARY_METRIC = "top1"


def load_predictions(run_dir: Path, dataset: str) -> pa.Table:
    """Read a run's zero-shot predictions on a dataset.

    Raises:
        DataError: The run has none.
    """
    predictions_dir = run_dir / "predictions"
    predictions = read_predictions(predictions_dir, dataset, ZERO_SHOT_TASK)
    if predictions is None:
        raise DataError(
            f"no predictions at {predictions_path(predictions_dir, dataset, ZERO_SHOT_TASK)}. "
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


def shorten_run_names(run_dirs: Sequence[Path]) -> dict[Path, str]:
    """Name each run by its directory, or by its full path if two directories have the same name.

    Raises:
        DataError: A run is given twice.
    """
    if duplicates := [path for path, count in Counter(run_dirs).items() if count > 1]:
        raise DataError(f"the run {duplicates[0]} is given twice. Give each run once.")
    counts = Counter(path.resolve().name for path in run_dirs)
    return {path: path.resolve().name if counts[path.resolve().name] == 1 else str(path) for path in run_dirs}
