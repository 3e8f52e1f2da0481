"""Conditions on columns keep what they say; ties at the threshold stay."""

import numpy as np
import pyarrow as pa
import pytest

from zebra.config.curate_columns import parse_condition
from zebra.curate.column_rules import column_rules, require_columns
from zebra.curate.rules import find_alone
from zebra.errors import ConfigError


def keep(condition: str, *chunks: list[float | None], dtype: pa.DataType | None = None) -> list[float | None]:
    """Return the values of which the pairs stay, rule by rule."""
    tables = [pa.table({"score": pa.array(values, dtype or pa.float64())}) for values in chunks]
    for rule in column_rules([condition]):
        is_dropped_N = find_alone(rule, tables)
        parts = np.split(is_dropped_N, np.cumsum([len(table) for table in tables])[:-1])
        tables = [table.filter(pa.array(~part)) for table, part in zip(tables, parts, strict=True)]
    return [value for table in tables for value in table["score"].to_pylist()]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("score >= 0.3", [0.3, 0.5]),
        ("score > 0.3", [0.5]),
        ("score <= 0.3", [0.1, 0.3]),
        ("Score<0.3", [0.1]),
        ("score >= -1e9", [0.1, 0.3, 0.5]),
    ],
)
def test_limits_say_whether_they_are_inclusive_and_missing_values_are_dropped(
    condition: str, expected: list[float]
) -> None:
    assert keep(condition, [0.1, None, 0.3], [], [float("nan"), 0.5]) == expected


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("score top 0.5", [5, 4, 4]),  # position 2 of four in descending order has a 4, which stays twice
        ("score top 25%", [5, 4, 4]),
        ("score top 100%", [5, 1, 4, 4]),
        ("score top 0.0001", [5]),
    ],
)
def test_a_fraction_is_of_the_pairs_with_a_value_and_ties_stay(condition: str, expected: list[float]) -> None:
    assert keep(condition, [5, 1], [4, None, 4]) == expected


def test_columns_are_compared_in_their_own_precision() -> None:
    assert keep("score >= 0.7", [0.7], dtype=pa.float32()) == [float(np.float32(0.7))]
    assert keep("score >= 2.5", [2, 3], dtype=pa.int8()) == [3]
    with pytest.raises(ConfigError, match="'score' of the pool has values that are no numbers"):
        keep("score >= 0", ["high"], dtype=pa.string())


def test_a_pool_without_pairs_is_no_error() -> None:
    assert keep("score top 0.5", []) == []
    assert keep("score top 0.5", [None]) == []


@pytest.mark.parametrize(
    "text", ["score", "score = 3", "score >= x", "score >= nan", "score top 0", "score top 101%", ">= 3", "", "a b > 3"]
)
def test_a_condition_that_is_not_understood_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="condition"):
        parse_condition(text)


def test_a_missing_column_is_named_with_the_one_that_was_meant() -> None:
    require_columns(["similarity >= 0.3"], ["similarity"])
    with pytest.raises(ConfigError, match=r"no column 'similarty'\. Did you mean 'similarity'\?"):
        require_columns(["similarty >= 0.3"], ["similarity", "text"])
