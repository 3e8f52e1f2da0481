"""Rules that drop pairs."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class PairRule:
    """A rule that looks at one pair at a time."""

    stage: str
    reason: str
    columns: tuple[str, ...]
    find: Callable[[pa.Table], pa.BooleanArray | pa.ChunkedArray]
    """Returns which pairs of a table to drop; null counts as false."""


@dataclass(frozen=True, slots=True)
class PoolRule:
    """A rule that compares the pairs of the whole pool."""

    stage: str
    reason: str
    columns: tuple[str, ...]
    find: Callable[[Callable[[], Iterable[pa.Table]]], Iterator[NDArray[np.bool_]]]
    """Takes a function that starts a pass over the remaining pairs, and yields which of each table's to drop."""


@dataclass(frozen=True, slots=True)
class ReasonRule:
    """A rule that drops pairs whose column is not null; each distinct value is a reason of its own."""

    stage: str
    column: str


Rule = PairRule | PoolRule


def find_alone(rule: Rule, tables: Sequence[pa.Table]) -> NDArray[np.bool_]:
    """Return which of all pairs a rule would drop if it were the only one, bool [N]."""
    if isinstance(rule, PairRule):
        return np.concatenate([to_mask(rule.find(table)) for table in tables])
    return np.concatenate(list(rule.find(lambda: tables)))


def to_mask(values: pa.BooleanArray | pa.ChunkedArray) -> NDArray[np.bool_]:
    """Return an Arrow array as booleans; null counts as false."""
    mask: NDArray[np.bool_] = values.fill_null(False).to_numpy(zero_copy_only=False)
    return mask
