"""Columns that a person would filter or color by: categories, numbers, dates."""

from collections import Counter
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa

from zebra.store import Store
from zebra.store.schema import BASE_COLUMNS, INTERNAL_COLUMNS

ColumnKind = Literal["category", "number", "date"]
MAX_CATEGORIES = 100
"""A text column with more distinct values holds names rather than groups."""
MAX_NUMBER_CATEGORIES = 12
"""Whole numbers with so few distinct values are categories."""
SAMPLE_ROWS = 1000
"""Rows that decide the kinds."""


@dataclass(frozen=True, slots=True)
class ColumnSummary:
    """A column whose values differ, judged by a sample of rows."""

    name: str
    kind: ColumnKind
    num_values: int
    """Number of distinct values."""
    share_known: float
    """Share of rows that have a value."""


def summarize_columns(store: Store) -> list[ColumnSummary]:
    """Return the columns that divide the rows: texts that form groups, booleans, numbers and dates.

    Columns that only some stores have come first. `label`, a class number, is left out if `class` has the names, or if
    there are many: it is no quantity.
    """
    names = [field.name for field in store.schema if field.name not in INTERNAL_COLUMNS and _is_plain(field.type)]
    names.sort(key=lambda name: name in BASE_COLUMNS)
    if "class" in names:
        names = [name for name in names if name != "label"]
    if not names or not len(store):
        return []
    sample = store.take_positions(_sample_positions(len(store)), names)
    summaries = [_summarize_column(name, sample[name]) for name in names]
    return [summary for summary in summaries if summary and (summary.name, summary.kind) != ("label", "number")]


def _summarize_column(name: str, values: pa.ChunkedArray) -> ColumnSummary | None:
    counts = Counter(value for value in values.to_pylist() if value is not None and value == value)  # noqa: PLR0124  # NaN
    share_known = counts.total() / len(values)
    if len(counts) < 2 and not 0 < share_known < 1:
        return None
    kind = _kind(values.type, counts)
    return None if kind is None else ColumnSummary(name, kind, len(counts), share_known)


def _kind(type: pa.DataType, counts: Counter[object]) -> ColumnKind | None:
    if pa.types.is_temporal(type):
        return "date"
    if pa.types.is_floating(type):
        return "number"
    if pa.types.is_integer(type):
        return "category" if len(counts) <= MAX_NUMBER_CATEGORIES else "number"
    is_group = len(counts) <= MAX_CATEGORIES and len(counts) <= max(2, counts.total() / 3)
    return "category" if is_group else None


def _is_plain(type: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(type)
        or pa.types.is_large_string(type)
        or pa.types.is_boolean(type)
        or pa.types.is_integer(type)
        or pa.types.is_floating(type)
        or pa.types.is_timestamp(type)
        or pa.types.is_date(type)
    )


def _sample_positions(num_rows: int) -> list[int]:
    """Return up to `SAMPLE_ROWS` evenly spaced positions."""
    positions = np.linspace(0, num_rows - 1, min(num_rows, SAMPLE_ROWS))
    return [int(position) for position in np.unique(positions.astype(int))]
