"""Accuracy by group of images (CLIP §7)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from zebra.data.table_files import TABLE_FORMATS, BadRow, open_table
from zebra.errors import DataError, suggest_name
from zebra.protocols.groups import score_by_group
from zebra.report.page import ReportTable, Section
from zebra.report.style import format_score
from zebra.studies.result import StudyResult
from zebra.studies.runs import load_predictions


def study_groups(run_dir: Path, dataset: str, table: Path, column: str) -> StudyResult:
    """Split a run's zero-shot accuracy on a dataset by a column of a table (CLIP §7).

    Args:
        run_dir: A directory that `zebra evaluate` wrote.
        dataset: Name of the dataset.
        table: CSV, TSV, JSONL or Parquet with image ids in the column `id`, or the table that was evaluated.
        column: The column that names the group of each image.

    Raises:
        DataError: The run has no predictions on the dataset, or the table lacks the column or an image.
    """
    predictions = load_predictions(run_dir, dataset)
    groups = match_groups(predictions["id"].to_pylist(), table, column, dataset)
    result = score_by_group(np.asarray(predictions["correct"]), groups)
    rows = tuple(
        (
            group,
            format_score(score),
            f"{score.n:,}",
            "too few images to compare" if group in result.small_groups else "",
        )
        for group, score in result.scores.items()
    )
    summary = {key: score for key, score in (("worst", result.worst), ("gap", result.gap)) if score}
    if summary:
        summary_text = (
            f"Worst group: {format_score(summary['worst'])}. Gap between the best and the worst group: "
            f"{format_score(summary['gap'])}. Both intervals account for selecting the extremes among all groups."
        )
    else:
        summary_text = "Fewer than two groups have enough images to compare."
    groups_section = Section(
        f"{dataset} by {column}",
        f"Zero-shot accuracy (top-1) of each group, lowest first. {summary_text}",
        ReportTable((column, "top-1", "images", ""), rows),
    )
    caveats_section = Section(
        "Limits of this study",
        "What these numbers cannot show.",
        ReportTable(("caveat",), tuple((caveat,) for caveat in result.caveats)),
    )
    scores = {"groups": result.scores, "summary": summary}
    return StudyResult(f"Groups of {dataset}", scores, result.caveats, (groups_section, caveats_section))


def match_groups(ids: Sequence[str], table: Path, column: str, dataset: str) -> list[object]:
    """Return the group of each image, from a column of a table.

    Raises:
        DataError: The table lacks the column or an image.
    """
    group_by_id = _read_column(table, column)
    if missing := [id for id in ids if id not in group_by_id]:
        raise DataError(
            f"{table} has no row for {len(missing)} images of {dataset}, such as {missing[0]!r}. Put image ids in the "
            "column 'id', or pass the table that was evaluated."
        )
    return [group_by_id[id] for id in ids]


def _read_column(path: Path, column: str) -> dict[str, object]:
    """Read one column of a table, keyed by row id, or by FILE:LINE without a column `id`."""
    if path.suffix.lower() not in TABLE_FORMATS or not path.is_file():
        raise DataError(f"cannot read the table {path}. Name an existing {', '.join(TABLE_FORMATS)} file.")
    table = open_table(path)
    if column not in table.columns:
        raise DataError(f"{path} has no column {column!r}.{suggest_name(column, table.columns)}")
    has_ids = "id" in table.columns
    value_by_id: dict[str, object] = {}
    for line, row in table.read(["id", column] if has_ids else [column]):
        if isinstance(row, BadRow):
            raise DataError(f"{path}:{line}: {row.reason} ({row.detail})")
        value_by_id[str(row["id"]) if has_ids else f"{path.name}:{line}"] = row.get(column)
    return value_by_id
