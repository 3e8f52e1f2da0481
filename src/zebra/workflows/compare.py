"""`zebra compare`: scores of several runs with paired tests and published numbers."""

from collections.abc import Sequence
from pathlib import Path

from zebra.config.compare import CompareConfig
from zebra.config.score_table import find_table_format
from zebra.data.benchmarks.catalog import find_catalog_entry
from zebra.errors import DataError
from zebra.evaluators.predictions import get_sample_scores
from zebra.evaluators.results_io import RESULTS_FILENAME, ResultRecord, read_latest_results, read_predictions
from zebra.evaluators.run_comparison import ComparisonRow
from zebra.protocols.paired_test import PairedComparison, compare_paired
from zebra.train.training_run import TrainingRun, read_training_run


def run(config: CompareConfig) -> list[ComparisonRow]:
    """Compare the scores of runs: the first against each other one; write the table and the page, if configured.

    Raises:
        DataError: A directory has neither results nor a training log, or two runs scored different data under one name.
        ConfigError: The table or the page cannot be written.
    """
    training_runs = read_training_runs(config)
    records_by_run = [_read_results(Path(path), is_training_run=path in training_runs) for path in config.runs]
    keys = list(dict.fromkeys(key for records in records_by_run for key in records))
    rows = []
    for key in keys:
        dataset, task, metric = key
        records = [by_key.get(key) for by_key in records_by_run]
        _require_same_data(config.runs, records)
        comparisons = _compare_predictions(config.runs, records, dataset, task, metric)
        scores = tuple(None if record is None else record.score for record in records)
        published_scores = _format_published_scores(dataset, task, metric)
        record = next(record for record in records if record)
        split = str(record.provenance.get("split", ""))
        rows.append(
            ComparisonRow(dataset, task, metric, scores, published_scores, comparisons, split, record.dataset_digest)
        )
    if config.table is not None:
        from zebra.report.score_table import write_score_table

        write_score_table(config.table, find_table_format(config.table, config.format), config.runs, rows)
    if config.page is not None:
        from zebra.report.comparison import write_comparison_page  # importing matplotlib takes a second

        write_comparison_page(Path(config.page), config.runs, rows, training_runs)
    return rows


def read_training_runs(config: CompareConfig) -> dict[str, TrainingRun]:
    """Return the logs of the runs that `zebra train` wrote; the other runs are left out.

    Raises:
        DataError: A log is damaged.
    """
    training_runs = {path: read_training_run(path) for path in config.runs}
    return {path: training_run for path, training_run in training_runs.items() if training_run is not None}


def _read_results(run_dir: Path, *, is_training_run: bool) -> dict[tuple[str, str, str], ResultRecord]:
    if is_training_run and not (run_dir / RESULTS_FILENAME).exists():
        return {}
    return read_latest_results(run_dir)


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
