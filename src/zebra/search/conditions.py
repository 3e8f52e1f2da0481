"""Typed conditions on columns, evaluated as Arrow masks or translated to SQL.

A comparison with a missing value is false, and `not` inverts it, so each row matches either a condition or its
negation. NaN counts as missing. Texts are compared in Unicode's form NFC.

The mask is exact. SQL has no Unicode normalization, so for texts with special characters (`zebra.text.case_folding`) it
gives bounds: the rows that may match, and those that match for certain.
"""

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zebra.text.case_folding import SPECIAL_PATTERN, fold_text

ComparisonOperator = Literal["=", "!=", "<", "<=", ">", ">="]
FilterValue = str | int | float | bool

_KERNELS: Mapping[str, Callable[[pa.Array, pa.Scalar], pa.Array]] = {
    "=": pc.equal,
    "!=": pc.not_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}


class Condition(Protocol):
    """A condition that each row either matches or does not."""

    @property
    def columns(self) -> frozenset[str]:
        """Names of the columns that the condition reads."""

    def mask(self, rows: pa.Table) -> pa.ChunkedArray | pa.Array:
        """Return a boolean without nulls for every row."""

    def to_sql(self, *, certain: bool = False) -> str:
        """Return SQL for the rows that may match, or that match for certain; every name and value is quoted."""


@dataclass(frozen=True, slots=True)
class FilterColumn:
    """A filterable column and the type that it is compared in."""

    name: str
    type: pa.DataType

    @property
    def kind(self) -> str:
        """text, number, date or yes/no; empty for a type that cannot be filtered."""
        return column_kind(self.type)

    @property
    def comparison_type(self) -> pa.DataType:
        """Type in which Arrow and SQL compare."""
        if pa.types.is_floating(self.type):
            return pa.float64()
        if self.kind in ("number", "date"):
            return pa.int64()
        return pa.bool_() if self.kind == "yes/no" else pa.string()

    def cast_values(self, rows: pa.Table) -> pa.ChunkedArray:
        """Return the cells in the comparison type, with NaN as null and texts in NFC."""
        cells = rows[self.name]
        if pa.types.is_date32(self.type):
            cells = cells.cast(pa.int32())  # Arrow cannot cast date32 to int64 directly
        cells = cells.cast(self.comparison_type)
        if pa.types.is_floating(self.type):
            cells = pc.if_else(pc.is_nan(cells), pa.scalar(None, pa.float64()), cells)
        return pc.utf8_normalize(cells, "NFC") if self.kind == "text" else cells

    def to_sql(self) -> str:
        """Return the cast to the comparison type as SQL; names contain no backquote (`zebra.store.schema`)."""
        return f"CAST(`{self.name}` AS {_SQL_TYPES[self.comparison_type]})"

    def is_null_sql(self) -> str:
        """Return the condition that a cell is null or NaN as SQL."""
        null = f"`{self.name}` IS NULL"
        return f"({null} OR isnan({self.to_sql()}))" if pa.types.is_floating(self.type) else null

    def bound_sql(self, condition: str, *, certain: bool) -> str:
        """Return a condition on texts without special characters as a bound for all texts."""
        is_special = f"coalesce(regexp_like({self.to_sql()}, {sql_literal(SPECIAL_PATTERN)}), false)"
        return f"({condition} AND NOT {is_special})" if certain else f"({condition} OR {is_special})"


_SQL_TYPES = {pa.float64(): "DOUBLE", pa.int64(): "BIGINT", pa.bool_(): "BOOLEAN", pa.string(): "STRING"}


def column_kind(type: pa.DataType) -> str:
    """Return text, number, date or yes/no for a type; an empty string if it cannot be filtered.

    >>> column_kind(pa.int32()), column_kind(pa.list_(pa.string()))
    ('number', '')
    """
    if pa.types.is_string(type) or pa.types.is_large_string(type):
        return "text"
    if pa.types.is_floating(type) or (pa.types.is_integer(type) and type != pa.uint64()):
        return "number"
    if pa.types.is_timestamp(type) or pa.types.is_date(type):
        return "date"
    return "yes/no" if pa.types.is_boolean(type) else ""


@dataclass(frozen=True, slots=True)
class ComparisonCondition:
    """Comparison of a column with a value, in the column's comparison type or, for a float value, as floats."""

    column: FilterColumn
    operator: ComparisonOperator
    value: FilterValue

    @property
    def columns(self) -> frozenset[str]:
        """The column."""
        return frozenset([self.column.name])

    def mask(self, rows: pa.Table) -> pa.ChunkedArray:
        """Return the mask; missing cells are false."""
        cells = self.column.cast_values(rows)
        if self._compares_as_float:
            cells = cells.cast(pa.float64(), safe=False)
        return pc.fill_null(_KERNELS[self.operator](cells, pa.scalar(self._normalized_value, cells.type)), False)

    def to_sql(self, *, certain: bool = False) -> str:
        """Return the comparison as SQL."""
        cells = f"CAST(`{self.column.name}` AS DOUBLE)" if self._compares_as_float else self.column.to_sql()
        compared = f"coalesce({cells} {self.operator} {sql_literal(self._normalized_value)}, false)"
        if self.column.kind == "text":
            return self.column.bound_sql(compared, certain=certain)
        if pa.types.is_floating(self.column.type):  # SQL orders NaN above all numbers
            return f"(NOT {self.column.is_null_sql()} AND {compared})"
        return compared

    @property
    def _normalized_value(self) -> FilterValue:
        return unicodedata.normalize("NFC", self.value) if isinstance(self.value, str) else self.value

    @property
    def _compares_as_float(self) -> bool:
        return isinstance(self.value, float) and not pa.types.is_floating(self.column.type)


@dataclass(frozen=True, slots=True)
class ContainsCondition:
    """Substring match regardless of case and Unicode form; "strasse" is contained in "Straße"."""

    column: FilterColumn
    text: str

    @property
    def columns(self) -> frozenset[str]:
        """The column."""
        return frozenset([self.column.name])

    def mask(self, rows: pa.Table) -> pa.ChunkedArray | pa.Array:
        """Return the mask; missing cells are false."""
        cells, text = self.column.cast_values(rows), fold_text(self.text)
        mask = pc.fill_null(pc.match_substring(cells, text, ignore_case=True), False)
        # Python folds exactly, but takes a hundred times as long.
        special_M = np.flatnonzero(pc.fill_null(pc.match_substring_regex(cells, SPECIAL_PATTERN), False).to_numpy())
        if not len(special_M):
            return mask
        mask_N = mask.to_numpy().copy()
        mask_N[special_M] = [text in fold_text(cell) for cell in cells.take(pa.array(special_M)).to_pylist()]
        return pa.array(mask_N)

    def to_sql(self, *, certain: bool = False) -> str:
        """Return an ILIKE condition with the wildcards in the text escaped."""
        escaped = fold_text(self.text).replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        contained = f"coalesce({self.column.to_sql()} ILIKE {sql_literal(f'%{escaped}%')}, false)"
        return self.column.bound_sql(contained, certain=certain)


@dataclass(frozen=True, slots=True)
class IsNullCondition:
    """Test for null or NaN."""

    column: FilterColumn

    @property
    def columns(self) -> frozenset[str]:
        """The column."""
        return frozenset([self.column.name])

    def mask(self, rows: pa.Table) -> pa.ChunkedArray:
        """Return the mask of missing cells."""
        return pc.is_null(self.column.cast_values(rows))

    def to_sql(self, *, certain: bool = False) -> str:  # noqa: ARG002  # exact
        """Return the test as SQL."""
        return self.column.is_null_sql()


@dataclass(frozen=True, slots=True)
class NotCondition:
    """Negation of a condition."""

    condition: Condition

    @property
    def columns(self) -> frozenset[str]:
        """Columns of the negated condition."""
        return self.condition.columns

    def mask(self, rows: pa.Table) -> pa.ChunkedArray:
        """Return the inverted mask."""
        return pc.invert(self.condition.mask(rows))

    def to_sql(self, *, certain: bool = False) -> str:
        """Return the negation as SQL; the rows that may not match are all but those that match for certain."""
        return f"(NOT {self.condition.to_sql(certain=not certain)})"


@dataclass(frozen=True, slots=True)
class BooleanCondition:
    """Conjunction or disjunction of conditions."""

    conditions: Sequence[Condition]
    operator: Literal["AND", "OR"]

    @property
    def columns(self) -> frozenset[str]:
        """Columns of all conditions."""
        return frozenset().union(*(condition.columns for condition in self.conditions))

    def mask(self, rows: pa.Table) -> pa.ChunkedArray:
        """Return the combined mask."""
        combine = pc.and_ if self.operator == "AND" else pc.or_
        first, *others = self.conditions
        mask = first.mask(rows)
        for condition in others:
            mask = combine(mask, condition.mask(rows))
        return mask

    def to_sql(self, *, certain: bool = False) -> str:
        """Return the combined condition as SQL."""
        parts = [condition.to_sql(certain=certain) for condition in self.conditions]
        return "(" + f" {self.operator} ".join(parts) + ")"


def sql_literal(value: FilterValue) -> str:
    """Return a value as an SQL literal.

    >>> sql_literal("o'b"), sql_literal(True), sql_literal(2.0)
    ("'o''b'", 'true', 'CAST(2.0 AS DOUBLE)')
    """
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"CAST({value!r} AS DOUBLE)" if isinstance(value, float) else str(value)
