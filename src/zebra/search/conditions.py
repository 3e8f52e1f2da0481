"""Typed conditions on columns: rows in, a mask out; or the same condition as the index's engine takes it.

Both give the same answer, with one rule for what is missing: a comparison with a missing value is false, and `not`
turns false into true, so that a condition and its opposite divide the store between them. NaN counts as missing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import pyarrow as pa
import pyarrow.compute as pc

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
    """Says of every row whether it may be an answer."""

    @property
    def columns(self) -> frozenset[str]:
        """What it looks at."""

    def mask(self, rows: pa.Table) -> pa.ChunkedArray | pa.Array:
        """Return a boolean for every row, none of them null."""

    def to_sql(self) -> str:
        """Write the condition for the engine of the store; every name and value in it is quoted here."""


@dataclass(frozen=True, slots=True)
class FilterColumn:
    """A column that can be filtered, brought into the form it is compared in."""

    name: str
    type: pa.DataType

    @property
    def kind(self) -> str:
        """text, number, date or yes/no; empty for a type that cannot be compared."""
        return column_kind(self.type)

    @property
    def comparison_type(self) -> pa.DataType:
        """The type that both engines compare in."""
        if pa.types.is_floating(self.type):
            return pa.float64()
        if self.kind in ("number", "date"):
            return pa.int64()
        return pa.bool_() if self.kind == "yes/no" else pa.string()

    def cast_values(self, rows: pa.Table) -> pa.ChunkedArray:
        """Return the cells in that type; NaN as null."""
        cells = rows[self.name]
        if pa.types.is_date32(self.type):
            cells = cells.cast(pa.int32())  # Arrow goes to int64 by this way only
        cells = cells.cast(self.comparison_type)
        if pa.types.is_floating(self.type):
            cells = pc.if_else(pc.is_nan(cells), pa.scalar(None, pa.float64()), cells)
        return cells

    def to_sql(self) -> str:
        """Write the cells in that type; names hold no backquote (`zebra.store.schema`)."""
        return f"CAST(`{self.name}` AS {_SQL_TYPES[self.comparison_type]})"

    def is_null_sql(self) -> str:
        """Write the condition that a cell is null or NaN."""
        null = f"`{self.name}` IS NULL"
        return f"({null} OR isnan({self.to_sql()}))" if pa.types.is_floating(self.type) else null


_SQL_TYPES = {pa.float64(): "DOUBLE", pa.int64(): "BIGINT", pa.bool_(): "BOOLEAN", pa.string(): "STRING"}


def column_kind(type: pa.DataType) -> str:
    """Name the type of a column as people say it; empty for one that cannot be filtered.

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
    """A cell against one value, in the column's `compared` type; a float makes both sides floats."""

    column: FilterColumn
    operator: ComparisonOperator
    value: FilterValue

    @property
    def columns(self) -> frozenset[str]:
        """The one."""
        return frozenset([self.column.name])

    def mask(self, rows: pa.Table) -> pa.ChunkedArray:
        """Compare; false where a cell is missing."""
        cells = self.column.cast_values(rows)
        if self._compares_as_float:
            cells = cells.cast(pa.float64(), safe=False)
        return pc.fill_null(_KERNELS[self.operator](cells, pa.scalar(self.value, cells.type)), False)

    def to_sql(self) -> str:
        """Write the comparison."""
        cells = f"CAST(`{self.column.name}` AS DOUBLE)" if self._compares_as_float else self.column.to_sql()
        compared = f"coalesce({cells} {self.operator} {sql_literal(self.value)}, false)"
        if pa.types.is_floating(self.column.type):  # to whose order NaN is the largest of all
            return f"(NOT {self.column.is_null_sql()} AND {compared})"
        return compared

    @property
    def _compares_as_float(self) -> bool:
        return isinstance(self.value, float) and not pa.types.is_floating(self.column.type)


@dataclass(frozen=True, slots=True)
class ContainsCondition:
    """A text somewhere in the cell, whether in capitals or not (Unicode's simple case folding)."""

    column: FilterColumn
    text: str

    @property
    def columns(self) -> frozenset[str]:
        """The one."""
        return frozenset([self.column.name])

    def mask(self, rows: pa.Table) -> pa.ChunkedArray:
        """Look for the text; false where a cell is missing."""
        cells = self.column.cast_values(rows)
        return pc.fill_null(pc.match_substring(cells, self.text, ignore_case=True), False)

    def to_sql(self) -> str:
        """Write a pattern in which nothing of the text is a wildcard."""
        plain = self.text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        return f"coalesce({self.column.to_sql()} ILIKE {sql_literal(f'%{plain}%')}, false)"


@dataclass(frozen=True, slots=True)
class IsNullCondition:
    """A cell that is null or NaN."""

    column: FilterColumn

    @property
    def columns(self) -> frozenset[str]:
        """The one."""
        return frozenset([self.column.name])

    def mask(self, rows: pa.Table) -> pa.ChunkedArray:
        """Look for nothing."""
        return pc.is_null(self.column.cast_values(rows))

    def to_sql(self) -> str:
        """Write it."""
        return self.column.is_null_sql()


@dataclass(frozen=True, slots=True)
class NotCondition:
    """The opposite."""

    condition: Condition

    @property
    def columns(self) -> frozenset[str]:
        """Of the condition."""
        return self.condition.columns

    def mask(self, rows: pa.Table) -> pa.ChunkedArray:
        """Turn the mask round."""
        return pc.invert(self.condition.mask(rows))

    def to_sql(self) -> str:
        """Turn the expression round."""
        return f"(NOT {self.condition.to_sql()})"


@dataclass(frozen=True, slots=True)
class BooleanCondition:
    """Several conditions: all of them, or any."""

    conditions: Sequence[Condition]
    operator: Literal["AND", "OR"]

    @property
    def columns(self) -> frozenset[str]:
        """Of all."""
        return frozenset().union(*(condition.columns for condition in self.conditions))

    def mask(self, rows: pa.Table) -> pa.ChunkedArray:
        """Join the masks."""
        join = pc.and_ if self.operator == "AND" else pc.or_
        first, *others = self.conditions
        mask = first.mask(rows)
        for condition in others:
            mask = join(mask, condition.mask(rows))
        return mask

    def to_sql(self) -> str:
        """Join the expressions."""
        return "(" + f" {self.operator} ".join(condition.to_sql() for condition in self.conditions) + ")"


def sql_literal(value: FilterValue) -> str:
    """Write a value for the engine of the store.

    >>> sql_literal("o'b"), sql_literal(True), sql_literal(2.0)
    ("'o''b'", 'true', 'CAST(2.0 AS DOUBLE)')
    """
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"CAST({value!r} AS DOUBLE)" if isinstance(value, float) else str(value)
