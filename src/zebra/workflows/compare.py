"""`zebra compare`: folders of evaluations in; scores side by side, paired tests and published numbers out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from zebra.data.benchmarks.catalog import find_catalog_entry
from zebra.errors import DataError
from zebra.evaluators.results_io import ResultRecord, read_latest_results, read_predictions
from zebra.protocols.paired_test import PairedComparison, SampleScores, compare_paired
from zebra.values import Score


@dataclass(frozen=True, slots=True)
class ComparisonRow:
    """One metric of one task on one set."""

    dataset: str
    task: str
    metric: str
    scores: tuple[Score | None, ...]
    """A score for each run; None where it was not measured."""
    published_scores: str
    """What the paper prints for this set and task; empty where nothing is known."""
    comparisons: Mapping[str, PairedComparison]
    """The first run against others, by their folder, where both left predictions of right and wrong."""


def run(run_dirs: Sequence[str]) -> list[ComparisonRow]:
    """Compare the runs.

    Raises:
        DataError: A folder has no results, or two runs scored different data under one name.
    """
    runs = [read_latest_results(Path(folder)) for folder in run_dirs]
    keys = list(dict.fromkeys(key for results in runs for key in results))
    rows = []
    for key in keys:
        name, task, metric = key
        found = [results.get(key) for results in runs]
        _require_same_data(run_dirs, found)
        against = _compare_predictions(run_dirs, found, name, task) if metric == "top1" else {}
        scores = tuple(None if result is None else result.score for result in found)
        rows.append(
            ComparisonRow(name, task, metric, scores, _format_published_scores(name, task, metric), against)
        )
    return rows


def _require_same_data(run_dirs: Sequence[str], records: Sequence[ResultRecord | None]) -> None:
    digests = {
        result.dataset_digest: folder for folder, result in zip(run_dirs, records, strict=True) if result
    }
    if len(digests) > 1:
        name = next(result.dataset for result in records if result)
        raise DataError(
            f"{' and '.join(digests.values())} scored different data under the name {name}; evaluate them on one copy"
        )


def _compare_predictions(
    run_dirs: Sequence[str], records: Sequence[ResultRecord | None], dataset: str, task: str
) -> dict[str, PairedComparison]:
    tables = [
        read_predictions(Path(folder) / "predictions", dataset, task) if result else None
        for folder, result in zip(run_dirs, records, strict=True)
    ]
    first = tables[0]
    if first is None:
        return {}
    return {
        folder: compare_paired(_to_sample_scores(first), _to_sample_scores(table))
        for folder, table in zip(run_dirs[1:], tables[1:], strict=True)
        if table is not None
    }


def _to_sample_scores(table: pa.Table) -> SampleScores:
    return SampleScores(tuple(table["id"].to_pylist()), np.asarray(table["correct"]))


def _format_published_scores(dataset: str, task: str, metric: str) -> str:
    """Return the paper's numbers, in per cent, with the model and how far they are verified."""
    try:
        record = find_catalog_entry(dataset.removeprefix("wds_"))
    except DataError:
        return ""
    kind = task if task in ("zero-shot", "linear-probe") else None
    own = {"accuracy": "top1", "map": "map", "map11": "map11"}.get(record.metric, record.metric)
    return ", ".join(
        f"{one.value} ({one.model}) [{one.source}]"
        for one in record.published_scores
        if one.task == kind and (one.metric or own) == metric
    )
