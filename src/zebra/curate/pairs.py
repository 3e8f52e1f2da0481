"""Pairs of an image and a caption as Arrow tables on disk.

One row per caption: an image with three captions has three rows with the same `index`. A sample that cannot be read has
one row without a caption, whose `reason` says why.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

UID_BYTES = 16
PAIR_SCHEMA = pa.schema(
    {
        "uid": pa.binary(UID_BYTES),
        "index": pa.int64(),  # position of the sample in the pool
        "id": pa.string(),  # name of the sample in the pool
        "text": pa.string(),
        "sha256": pa.binary(32),  # of the encoded image
        "md5": pa.binary(16),  # the same; lists of others identify images by it
        "num_bytes": pa.int64(),
        "width": pa.int32(),
        "height": pa.int32(),
        "has_location": pa.bool_(),  # whether the file says where the image was taken
        "contrast": pa.float32(),  # standard deviation of the gray values, 0 to 127.5
        "reason": pa.string(),  # why the sample cannot be used; null if it can
        "detail": pa.string(),
    }
)
KEPT = -1
"""Decision on a pair that no rule drops."""
MIN_BLOCK_PAIRS = 65_536
"""Pairs that are read at a time, at least: fewer make calls of Arrow and numpy expensive."""


def make_uid(sample_id: str, text: str) -> bytes:
    """Return the identity of a pair: the first 16 bytes of the SHA-256 of sample and caption."""
    return sha256(f"{sample_id}\0{text}".encode("utf-8", "surrogatepass")).digest()[:UID_BYTES]


@dataclass(frozen=True, slots=True)
class Block:
    """The remaining pairs of consecutive units; it can be sent to another process."""

    units: tuple[tuple[Path, ...], ...]
    """The files of each unit."""
    file_number: Mapping[str, int]
    """Column → position of its file in a unit."""
    is_kept_N: NDArray[np.bool_]
    """Which of all pairs of the units remain."""

    def read(self, columns: Sequence[str]) -> pa.Table:
        """Return the remaining pairs, in one chunk."""
        return self.read_all(columns).filter(pa.array(self.is_kept_N)).combine_chunks()

    def read_all(self, columns: Sequence[str]) -> pa.Table:
        """Return all pairs, dropped or not."""
        names_by_file: dict[int, list[str]] = {}
        for name in columns:
            names_by_file.setdefault(self.file_number[name], []).append(name)
        tables = [
            pa.concat_tables([_read_file(files[number], names) for files in self.units])
            for number, names in names_by_file.items()
        ]
        return pa.table({name: table[name] for table in tables for name in table.column_names}).select(list(columns))


class Pairs:
    """The pairs of a pool in Parquet files, and the decision on each of them.

    A unit is a file with some of the pairs; files with further columns of the same rows can be added to it. Units are
    read in blocks of about MIN_BLOCK_PAIRS pairs. Only one block per worker is in memory at a time, and one decision of
    two bytes per pair.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self._units = [[file] for file in files]
        num_rows_U = np.array([pq.read_metadata(file).num_rows for file in files], np.int64)
        self._start_U = np.concatenate([[0], np.cumsum(num_rows_U)])
        self._decision_N = np.full(int(num_rows_U.sum()), KEPT, np.int16)
        self._file_number = dict.fromkeys(pq.read_schema(files[0]).names, 0) if files else {}
        self._first_units = _group_units(num_rows_U)

    def __len__(self) -> int:
        """Return the number of pairs, kept or dropped."""
        return len(self._decision_N)

    @property
    def units(self) -> list[tuple[Path, ...]]:
        """Return the files of each unit: the pairs, then the added columns."""
        return [tuple(files) for files in self._units]

    @property
    def columns(self) -> list[str]:
        """Return the names of all columns."""
        return list(self._file_number)

    @property
    def num_kept(self) -> int:
        """Return the number of pairs that no rule has dropped so far."""
        return int(np.count_nonzero(self._decision_N == KEPT))

    def without_decisions(self) -> "Pairs":
        """Return the same pairs with the same columns, none of them dropped."""
        pairs = Pairs([files[0] for files in self._units])
        pairs._units, pairs._file_number = [list(files) for files in self._units], dict(self._file_number)
        return pairs

    def add_columns(self, files: Sequence[Path]) -> None:
        """Add columns: a file per unit, with a row for each pair, dropped or not. Columns of the same name replace."""
        for unit, file in zip(self._units, files, strict=True):
            unit.append(file)
        if files:
            self._file_number |= dict.fromkeys(pq.read_schema(files[0]).names, len(self._units[0]) - 1)

    def count_values(self, column: str) -> dict[str, int]:
        """Return value → number of remaining pairs that have it, the most frequent first.

        Nulls are not counted. A column of lists counts each value of a list; a missing column has no values.
        """
        if column not in self.columns:
            return {}
        counts: Counter[str] = Counter()
        for table in self.read_kept((column,)):
            values = table[column].combine_chunks()
            values = values.flatten() if pa.types.is_list(values.type) else values.drop_null()
            counts.update({item["values"].as_py(): item["counts"].as_py() for item in values.value_counts()})
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    def iter_units(self) -> Iterator[Block]:
        """Yield the remaining pairs of each unit."""
        return (self._block(unit, unit + 1) for unit in range(len(self._units)))

    def iter_blocks(self) -> Iterator[Block]:
        """Yield the remaining pairs in blocks of units."""
        return (self._block(start, stop) for start, stop in pairwise(self._first_units))

    def read_kept(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Yield the remaining pairs of each block, in order."""
        return (block.read(columns) for block in self.iter_blocks())

    def read_decisions(self, columns: Sequence[str]) -> Iterator[tuple[pa.Table, NDArray[np.int16]]]:
        """Yield all pairs of each block with their decisions [N]: KEPT, or the number of a rule."""
        for start, stop in pairwise(self._first_units):
            decision_N = self._decision_N[self._start_U[start] : self._start_U[stop]]
            yield self._block(start, stop).read_all(columns), decision_N

    def drop(self, block: int, is_dropped_K: NDArray[np.bool_], rule_number: int) -> None:
        """Drop some of the K remaining pairs of a block."""
        self.drop_by_rules(block, np.where(is_dropped_K, 0, KEPT), rule_number)

    def drop_by_rules(self, block: int, rule_K: NDArray[np.integer], first_number: int) -> None:
        """Decide on the K remaining pairs of a block: KEPT, or the number of a rule after the first one."""
        first, last = self._first_units[block : block + 2]
        decision_N = self._decision_N[self._start_U[first] : self._start_U[last]]
        (kept_K,) = np.nonzero(decision_N == KEPT)
        decision_N[kept_K] = np.where(rule_K == KEPT, KEPT, rule_K + first_number)

    def _block(self, start: int, stop: int) -> Block:
        is_kept_N = self._decision_N[self._start_U[start] : self._start_U[stop]] == KEPT
        return Block(tuple(map(tuple, self._units[start:stop])), dict(self._file_number), is_kept_N)


def _group_units(num_rows_U: NDArray[np.int64]) -> list[int]:
    """Return the first unit of each block, and the number of units."""
    first_units, num_rows = [0], 0
    for unit, rows in enumerate(num_rows_U.tolist()):
        num_rows += rows
        if num_rows >= MIN_BLOCK_PAIRS:
            first_units.append(unit + 1)
            num_rows = 0
    return first_units if first_units[-1] == len(num_rows_U) else [*first_units, len(num_rows_U)]


def _read_file(file: Path, columns: Sequence[str]) -> pa.Table:
    # A third of the time of pq.read_table, which starts with a search for partitions of a dataset.
    with pq.ParquetFile(file) as parquet:
        return parquet.read(list(columns), use_threads=False).select(list(columns))
