"""Rules for numeric columns of the pool, such as published scores."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from zebra.config.curate_columns import ColumnCondition, parse_condition
from zebra.curate.pipeline import Stage
from zebra.curate.rules import PairRule, PoolRule
from zebra.errors import ConfigError, suggest_name

STAGE = "columns"
_VIOLATIONS = {
    ">=": (pc.less, "under"),
    "<=": (pc.greater, "over"),
    ">": (pc.less_equal, "not over"),
    "<": (pc.greater_equal, "not under"),
}
"""Operator → the comparison that finds violations, and its name in reasons."""


def column_rules(conditions: Sequence[str]) -> list[Stage]:
    """Return the rules for conditions as `parse_condition` reads them; a pair without a value is dropped."""
    rules: list[Stage] = []
    for condition in map(parse_condition, conditions):
        rules += [_missing_rule(condition.column), _rule(condition)]
    return rules


def require_columns(conditions: Sequence[str], columns: Collection[str]) -> None:
    """Raise ConfigError if the pool lacks a column."""
    for column in (parse_condition(text).column for text in conditions):
        if column not in columns:
            raise ConfigError(f"the pool has no column {column!r}.{suggest_name(column, columns)}")


def _missing_rule(column: str) -> PairRule:
    return PairRule(
        STAGE, f"no {column}", (column,), lambda table: pc.is_null(_read_numbers(table, column), nan_is_null=True)
    )


def _rule(condition: ColumnCondition) -> PairRule | PoolRule:
    column, value = condition.column, condition.value
    if condition.operator == "top":
        return PoolRule(
            STAGE, f"{column} not in the top {value:.4g}", (column,), lambda read: _find_low(read, condition)
        )
    compare, name = _VIOLATIONS[condition.operator]

    def find(table: pa.Table) -> pa.ChunkedArray:
        numbers = _read_numbers(table, column)
        return compare(numbers, pa.scalar(value, numbers.type))  # in the column's precision, as pandas compares

    return PairRule(STAGE, f"{column} {name} {value:g}", (column,), find)


def _read_numbers(table: pa.Table, column: str) -> pa.ChunkedArray:
    """Return a column as float32 or float64."""
    values = table[column]
    if pa.types.is_float32(values.type) or pa.types.is_float64(values.type):
        return values
    try:
        return values.cast(pa.float32() if pa.types.is_float16(values.type) else pa.float64())
    except pa.ArrowException as error:
        raise ConfigError(f"column {column!r} of the pool has values that are no numbers: {error}") from error


def _find_low(read: Callable[[], Iterable[pa.Table]], condition: ColumnCondition) -> Iterator[NDArray[np.bool_]]:
    """Yield which pairs have less than the threshold; ties stay."""
    numbers = [_read_numbers(table, condition.column).to_numpy() for table in read()]
    threshold = find_threshold(numbers, condition.value)
    return (number_N < threshold for number_N in numbers)


def find_threshold(numbers: Sequence[NDArray[np.floating[Any]]], fraction: float) -> float:
    """Return the value at position ⌊N · fraction⌋, from 0, in descending order; −∞ without values.

    This is the threshold of DataComp's filter (arXiv 2304.14108).
    """
    sorted_N = np.sort(np.concatenate([np.zeros(0, np.float32), *numbers]))[::-1]
    return float(sorted_N[min(int(len(sorted_N) * fraction), len(sorted_N) - 1)]) if len(sorted_N) else -np.inf
