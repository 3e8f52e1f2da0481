"""`zebra compare`: folders of evaluations in; scores side by side, paired tests and published numbers out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from zebra.data.benchmarks.catalog import find_record
from zebra.errors import DataError
from zebra.evaluators.results_io import Result, latest_results, read_predictions
from zebra.protocols.paired_test import Comparison, Outcomes, compare
from zebra.values import Score


@dataclass(frozen=True, slots=True)
class Row:
    """One metric of one task on one set."""

    set: str
    task: str
    metric: str
    scores: tuple[Score | None, ...]
    """A score for each run; None where it was not measured."""
    published: str
    """What the paper prints for this set and task; empty where nothing is known."""
    against: Mapping[str, Comparison]
    """The first run against others, by their folder, where both left predictions of right and wrong."""


def run(folders: Sequence[str]) -> list[Row]:
    """Compare the runs.

    Raises:
        DataError: A folder has no results, or two runs scored different data under one name.
    """
    runs = [latest_results(Path(folder)) for folder in folders]
    keys = list(dict.fromkeys(key for results in runs for key in results))
    rows = []
    for key in keys:
        name, task, metric = key
        found = [results.get(key) for results in runs]
        _require_same_data(folders, found)
        against = _tests(folders, found, name, task) if metric == "top1" else {}
        scores = tuple(None if result is None else result.score for result in found)
        rows.append(Row(name, task, metric, scores, _published(name, task, metric), against))
    return rows


def _require_same_data(folders: Sequence[str], found: Sequence[Result | None]) -> None:
    digests = {result.dataset: folder for folder, result in zip(folders, found, strict=True) if result}
    if len(digests) > 1:
        name = next(result.set for result in found if result)
        raise DataError(
            f"{' and '.join(digests.values())} scored different data under the name {name}; evaluate them on one copy"
        )


def _tests(
    folders: Sequence[str], found: Sequence[Result | None], name: str, task: str
) -> dict[str, Comparison]:
    tables = [
        read_predictions(Path(folder) / "predictions", name, task) if result else None
        for folder, result in zip(folders, found, strict=True)
    ]
    first = tables[0]
    if first is None:
        return {}
    return {
        folder: compare(_outcomes(first), _outcomes(table))
        for folder, table in zip(folders[1:], tables[1:], strict=True)
        if table is not None
    }


def _outcomes(table: pa.Table) -> Outcomes:
    return Outcomes(tuple(table["id"].to_pylist()), np.asarray(table["correct"]))


def _published(name: str, task: str, metric: str) -> str:
    """Return the paper's numbers, in per cent, with the model and how far they are verified."""
    try:
        record = find_record(name.removeprefix("wds_"))
    except DataError:
        return ""
    kind = {"zero-shot": "zero-shot", "linear-probe": "probe"}.get(task)
    own = {"accuracy": "top1", "map": "map", "map11": "map11"}.get(record.metric, record.metric)
    return ", ".join(
        f"{one.value} ({one.model}) [{one.tag}]"
        for one in record.published
        if one.task == kind and (one.metric or own) == metric
    )
