"""`zebra compare`: scores of several runs with paired tests and published numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from zebra.config.compare import CompareConfig
from zebra.data.benchmarks.catalog import find_catalog_entry
from zebra.errors import DataError
from zebra.evaluators.predictions import get_sample_scores
from zebra.evaluators.results_io import ResultRecord, read_latest_results, read_predictions
from zebra.protocols.paired_test import PairedComparison, compare_paired
from zebra.values import Score


@dataclass(frozen=True, slots=True)
class ComparisonRow:
    """One metric of one task on one dataset, for all runs."""

    dataset: str
    task: str
    metric: str
    scores: tuple[Score | None, ...]
    """One score for each run; None if the run does not have it."""
    published_scores: str
    """The numbers that the paper reports for this dataset and task; empty if there are none."""
    comparisons: Mapping[str, PairedComparison]
    """Run → the first run against it; only for runs with predictions of the same task."""


def run(config: CompareConfig) -> list[ComparisonRow]:
    """Compare runs: the first against each other one.

    Raises:
        DataError: A directory has no results, or two runs scored different data under one name.
    """
    records_by_run = [read_latest_results(Path(path)) for path in config.runs]
    keys = list(dict.fromkeys(key for records in records_by_run for key in records))
    rows = []
    for key in keys:
        dataset, task, metric = key
        records = [by_key.get(key) for by_key in records_by_run]
        _require_same_data(config.runs, records)
        comparisons = _compare_predictions(config.runs, records, dataset, task, metric)
        scores = tuple(None if record is None else record.score for record in records)
        published_scores = _format_published_scores(dataset, task, metric)
        rows.append(ComparisonRow(dataset, task, metric, scores, published_scores, comparisons))
    return rows


def _require_same_data(run_dirs: Sequence[str], records: Sequence[ResultRecord | None]) -> None:
    run_by_digest = {
        record.dataset_digest: run_dir for run_dir, record in zip(run_dirs, records, strict=True) if record
    }
    if len(run_by_digest) > 1:
        dataset = next(record.dataset for record in records if record)
        raise DataError(
            f"{' and '.join(run_by_digest.values())} scored different data under the name {dataset}. "
            "Evaluate all models on the same copy of the dataset."
        )


def _compare_predictions(
    run_dirs: Sequence[str], records: Sequence[ResultRecord | None], dataset: str, task: str, metric: str
) -> dict[str, PairedComparison]:
    """Compare the first run with each other one that has predictions on the same samples.

    Without a training split, a probe's test images depend on the seed; such runs are not compared sample by sample.
    """
    tables = [
        read_predictions(Path(run_dir) / "predictions", dataset, task) if record else None
        for run_dir, record in zip(run_dirs, records, strict=True)
    ]
    first, *others = [None if table is None else get_sample_scores(table, metric) for table in tables]
    if first is None:
        return {}
    return {
        run_dir: compare_paired(first, other)
        for run_dir, other in zip(run_dirs[1:], others, strict=True)
        if other is not None and set(other.ids) == set(first.ids)
    }


def _format_published_scores(dataset: str, task: str, metric: str) -> str:
    """Format the paper's numbers, in percent, with the model and the source of each number."""
    try:
        entry = find_catalog_entry(dataset.removeprefix("wds_"))
    except DataError:
        return ""
    main_metric = {"accuracy": "top1", "map": "map", "map11": "map11"}.get(entry.metric, entry.metric)
    return ", ".join(
        f"{published.value} ({published.model}) [{published.source}]"
        for published in entry.published_scores
        if published.task == task and (published.metric or main_metric) == metric
    )
