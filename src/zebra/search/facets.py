"""Facets of a store: counts of the values of columns, or ranges with histograms."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from zebra.search.column_kinds import MAX_CATEGORIES, ColumnKind
from zebra.search.filter_parser import parse_filter
from zebra.search.snapshot import StoreSnapshot

NUM_BINS = 24
"""Bins of a histogram."""

Mask = NDArray[np.bool_]
FacetValue = str | bool | int
RangeEnd = float | date | datetime | None


@dataclass(frozen=True, slots=True)
class Facet:
    """A column with what it holds among the rows that all other selections allow."""

    name: str
    kind: ColumnKind
    values: tuple[tuple[FacetValue, int], ...] = ()
    """Values of a category with their numbers of rows, most frequent first; at most MAX_CATEGORIES."""
    num_missing: int = 0
    """Number of those rows without a value."""
    low: RangeEnd = None
    """Smallest value of the whole store, of a number or date."""
    high: RangeEnd = None
    histogram: tuple[int, ...] = ()
    """Number of those rows in NUM_BINS equal bins from `low` to `high`."""


@dataclass(frozen=True, slots=True)
class FacetCounts:
    """All facets of a store under a filter."""

    facets: tuple[Facet, ...]
    num_matches: int
    """Number of rows that the filter and all selections allow."""
    num_rows: int


def count_facets(snapshot: StoreSnapshot, where: str | None, selections: Mapping[str, str]) -> FacetCounts:
    """Count the values of each column.

    Args:
        where: A filter for all columns.
        selections: Filters by the column whose facet chose them. A facet ignores its own selection, so that its other
            values can still be added.

    Raises:
        ConfigError: A filter is invalid.
    """
    everything = np.ones(len(snapshot), bool)
    base_N = everything if where is None else filter_rows(snapshot, where)
    masks = {name: filter_rows(snapshot, text) for name, text in selections.items()}

    def combine(excluded: str | None = None) -> Mask:
        mask_N = base_N
        for name, selected_N in masks.items():
            if name != excluded:
                mask_N = mask_N & selected_N
        return mask_N

    facets = [
        _count_facet(column.name, column.kind, snapshot.column(column.name), combine(column.name))
        for column in snapshot.column_summaries
    ]
    return FacetCounts(tuple(facets), int(combine().sum()), len(snapshot))


def filter_rows(snapshot: StoreSnapshot, where: str) -> Mask:
    """Return the mask of the rows that match a filter; ConfigError if it is invalid."""
    return snapshot.filter_mask(where, parse_filter(where, snapshot.schema))


def _count_facet(name: str, kind: ColumnKind, cells: pa.ChunkedArray, mask_N: Mask) -> Facet:
    allowed = cells.filter(pa.array(mask_N))
    if kind == "category":
        counts = {item["values"]: item["counts"] for item in pc.value_counts(allowed).to_pylist()}
        num_missing = counts.pop(None, 0)
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        return Facet(name, kind, tuple(ranked[:MAX_CATEGORIES]), num_missing)
    ends = pc.min_max(_drop_nan(cells)).as_py()
    num_missing = len(allowed) - len(_drop_nan(allowed).drop_null())
    return Facet(
        name, kind, (), num_missing, ends["min"], ends["max"], _histogram(_to_numbers(cells), _to_numbers(allowed))
    )


def _drop_nan(cells: pa.ChunkedArray) -> pa.ChunkedArray:
    if not pa.types.is_floating(cells.type):
        return cells
    return cells.filter(pc.fill_null(pc.is_finite(cells), False))


def _to_numbers(cells: pa.ChunkedArray) -> NDArray[np.float64]:
    if pa.types.is_temporal(cells.type):
        integer: Literal["int32", "int64"] = "int32" if pa.types.is_date32(cells.type) else "int64"
        cells = cells.cast(integer)
    numbers: NDArray[np.float64] = _drop_nan(cells).drop_null().to_numpy().astype(np.float64)
    return numbers


def _histogram(all_values: NDArray[np.float64], values: NDArray[np.float64]) -> tuple[int, ...]:
    if not len(all_values):
        return ()
    counts: Sequence[int] = np.histogram(values, NUM_BINS, (all_values.min(), all_values.max()))[0].tolist()
    return tuple(counts)
