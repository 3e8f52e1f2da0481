"""Rules that drop pairs."""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from zebra.engines.engine import Item, Result


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
    find: Callable[["PoolReader"], Iterable[NDArray[np.bool_]]]
    """Takes the remaining pairs, and yields which of each table's to drop."""


class PoolReader(Protocol):
    """The remaining pairs of a pool as tables, for rules that compare them."""

    @property
    def num_pairs(self) -> int:
        """Return the number of remaining pairs."""
        ...

    def __call__(self) -> Iterable[pa.Table]:
        """Yield each table; every call starts another pass."""
        ...

    def map(self, function: Callable[[pa.Table], Result]) -> Iterable[Result]:
        """Yield a function's result for each table, in order; the engine runs it on several at a time."""
        ...

    def run(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterable[Result]:
        """Yield a function's result for each item, in order, by the same engine."""
        ...

    def make_folder(self) -> AbstractContextManager[Path]:
        """Return a folder that all workers can write to, and that is deleted in the end."""
        ...


@dataclass(frozen=True, slots=True)
class TableReader:
    """Tables in memory as a pool."""

    tables: Sequence[pa.Table]

    @property
    def num_pairs(self) -> int:
        """Return the number of rows."""
        return sum(map(len, self.tables))

    def __call__(self) -> Iterable[pa.Table]:
        """Return the tables."""
        return self.tables

    def map(self, function: Callable[[pa.Table], Result]) -> Iterable[Result]:
        """Yield a function's result for each table."""
        return map(function, self.tables)

    def run(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterable[Result]:
        """Yield a function's result for each item."""
        return map(function, items)

    @contextmanager
    def make_folder(self) -> Iterator[Path]:
        """Yield a temporary folder."""
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)


@dataclass(frozen=True, slots=True)
class ReasonRule:
    """A rule that drops pairs whose column is not null; each distinct value is a reason of its own."""

    stage: str
    column: str
    is_failure: bool = True
    """Whether such a pair could not be read or measured, so that later stages cannot judge it."""


Rule = PairRule | PoolRule


def find_alone(rule: Rule, tables: Sequence[pa.Table]) -> NDArray[np.bool_]:
    """Return which of all pairs a rule would drop if it were the only one, bool [N]."""
    if isinstance(rule, PairRule):
        return np.concatenate([to_mask(rule.find(table)) for table in tables])
    return np.concatenate(list(rule.find(TableReader([table.select(rule.columns) for table in tables]))))


def to_mask(values: pa.BooleanArray | pa.ChunkedArray) -> NDArray[np.bool_]:
    """Return an Arrow array as booleans; null counts as false."""
    mask: NDArray[np.bool_] = values.fill_null(False).to_numpy(zero_copy_only=False)
    return mask
