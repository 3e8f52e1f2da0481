"""Typed conditions on columns: rows in, a mask out; or the same condition as the index's engine takes it.

Both give the same answer, with one rule for what is missing: a comparison with a missing value is false, and `not`
turns false into true, so that a condition and its opposite divide the store between them. NaN counts as missing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import pyarrow as pa
import pyarrow.compute as pc

Operator = Literal["=", "!=", "<", "<=", ">", ">="]
Value = str | int | float | bool

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

    def expression(self) -> str:
        """Write the condition for the engine of the store; every name and value in it is quoted here."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column that can be filtered, brought into the form it is compared in."""

    name: str
    type: pa.DataType

    @property
    def kind(self) -> str:
        """text, number, date or yes/no; empty for a type that cannot be compared."""
        return kind_of(self.type)

    @property
    def compared(self) -> pa.DataType:
        """The type that both engines compare in."""
        if pa.types.is_floating(self.type):
            return pa.float64()
        if self.kind in ("number", "date"):
            return pa.int64()
        return pa.bool_() if self.kind == "yes/no" else pa.string()

    def values(self, rows: pa.Table) -> pa.ChunkedArray:
        """Return the cells in that type; NaN as null."""
        cells = rows[self.name]
        if pa.types.is_date32(self.type):
            cells = cells.cast(pa.int32())  # Arrow goes to int64 by this way only
        cells = cells.cast(self.compared)
        if pa.types.is_floating(self.type):
            cells = pc.if_else(pc.is_nan(cells), pa.scalar(None, pa.float64()), cells)
        return cells

    def expression(self) -> str:
        """Write the cells in that type; names hold no backquote (`zebra.store.schema`)."""
        return f"CAST(`{self.name}` AS {_NAMES[self.compared]})"

    def is_missing(self) -> str:
        """Write the condition that a cell is null or NaN."""
        null = f"`{self.name}` IS NULL"
        return f"({null} OR isnan({self.expression()}))" if pa.types.is_floating(self.type) else null


_NAMES = {pa.float64(): "DOUBLE", pa.int64(): "BIGINT", pa.bool_(): "BOOLEAN", pa.string(): "STRING"}


def kind_of(type: pa.DataType) -> str:
    """Name the type of a column as people say it; empty for one that cannot be filtered.

    >>> kind_of(pa.int32()), kind_of(pa.list_(pa.string()))
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
class Comparison:
    """A cell against one value, in the column's `compared` type; a float makes both sides floats."""

    column: Column
    operator: Operator
    value: Value

    @property
    def columns(self) -> frozenset[str]:
        """The one."""
        return frozenset([self.column.name])

    def mask(self, rows: pa.Table) -> pa.ChunkedArray:
        """Compare; false where a cell is missing."""
        cells = self.column.values(rows)
        if self._as_floats:
            cells = cells.cast(pa.float64(), safe=False)
        return pc.fill_null(_KERNELS[self.operator](cells, pa.scalar(self.value, cells.type)), False)

    def expression(self) -> str:
        """Write the comparison."""
        cells = f"CAST(`{self.column.name}` AS DOUBLE)" if self._as_floats else self.column.expression()
        compared = f"coalesce({cells} {self.operator} {literal(self.value)}, false)"
        if pa.types.is_floating(self.column.type):  # to whose order NaN is the largest of all
            return f"(NOT {self.column.is_missing()} AND {compared})"
        return compared

    @property
    def _as_floats(self) -> bool:
        return isinstance(self.value, float) and not pa.types.is_floating(self.column.type)


@dataclass(frozen=True, slots=True)
class Contains:
    """A text somewhere in the cell, whether in capitals or not (Unicode's simple case folding)."""

    column: Column
    text: str

    @property
    def columns(self) -> frozenset[str]:
        """The one."""
        return frozenset([self.column.name])

    def mask(self, rows: pa.Table) -> pa.ChunkedArray:
        """Look for the text; false where a cell is missing."""
        cells = self.column.values(rows)
        return pc.fill_null(pc.match_substring(cells, self.text, ignore_case=True), False)

    def expression(self) -> str:
        """Write a pattern in which nothing of the text is a wildcard."""
        plain = self.text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        return f"coalesce({self.column.expression()} ILIKE {literal(f'%{plain}%')}, false)"


@dataclass(frozen=True, slots=True)
class Missing:
    """A cell that is null or NaN."""

    column: Column

    @property
    def columns(self) -> frozenset[str]:
        """The one."""
        return frozenset([self.column.name])

    def mask(self, rows: pa.Table) -> pa.ChunkedArray:
        """Look for nothing."""
        return pc.is_null(self.column.values(rows))

    def expression(self) -> str:
        """Write it."""
        return self.column.is_missing()


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite."""

    condition: Condition

    @property
    def columns(self) -> frozenset[str]:
        """Of the condition."""
        return self.condition.columns

    def mask(self, rows: pa.Table) -> pa.ChunkedArray:
        """Turn the mask round."""
        return pc.invert(self.condition.mask(rows))

    def expression(self) -> str:
        """Turn the expression round."""
        return f"(NOT {self.condition.expression()})"


@dataclass(frozen=True, slots=True)
class Joined:
    """Several conditions: all of them, or any."""

    conditions: Sequence[Condition]
    word: Literal["AND", "OR"]

    @property
    def columns(self) -> frozenset[str]:
        """Of all."""
        return frozenset().union(*(condition.columns for condition in self.conditions))

    def mask(self, rows: pa.Table) -> pa.ChunkedArray:
        """Join the masks."""
        join = pc.and_ if self.word == "AND" else pc.or_
        first, *others = self.conditions
        mask = first.mask(rows)
        for condition in others:
            mask = join(mask, condition.mask(rows))
        return mask

    def expression(self) -> str:
        """Join the expressions."""
        return "(" + f" {self.word} ".join(condition.expression() for condition in self.conditions) + ")"


def literal(value: Value) -> str:
    """Write a value for the engine of the store.

    >>> literal("o'b"), literal(True), literal(2.0)
    ("'o''b'", 'true', 'CAST(2.0 AS DOUBLE)')
    """
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"CAST({value!r} AS DOUBLE)" if isinstance(value, float) else str(value)
