"""Pairs of an image and a caption as Arrow tables on disk.

One row per caption: an image with three captions has three rows with the same `index`. A sample that cannot be read has
one row without a caption, whose `reason` says why.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from hashlib import sha256
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
        "contrast": pa.float32(),  # standard deviation of the gray values, 0 to 127.5
        "reason": pa.string(),  # why the sample cannot be used; null if it can
        "detail": pa.string(),
    }
)
KEPT = -1
"""Decision on a pair that no rule drops."""


def make_uid(sample_id: str, text: str) -> bytes:
    """Return the identity of a pair: the first 16 bytes of the SHA-256 of sample and caption."""
    return sha256(f"{sample_id}\0{text}".encode("utf-8", "surrogatepass")).digest()[:UID_BYTES]


class Pairs:
    """The pairs of a pool in Parquet files, and the decision on each of them.

    A unit is a file with some of the pairs; files with further columns of the same rows can be added to it. Only one
    unit is in memory at a time, and one decision of two bytes per pair.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self._units = [[file] for file in files]
        self._decisions = [np.full(pq.read_metadata(file).num_rows, KEPT, np.int16) for file in files]
        self._file_number = dict.fromkeys(pq.read_schema(files[0]).names, 0) if files else {}

    def __len__(self) -> int:
        """Return the number of pairs, kept or dropped."""
        return sum(map(len, self._decisions))

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
        return sum(int((decision_N == KEPT).sum()) for decision_N in self._decisions)

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

    def is_kept(self, unit: int) -> NDArray[np.bool_]:
        """Return which of all pairs of a unit remain, bool [N]."""
        is_kept_N: NDArray[np.bool_] = self._decisions[unit] == KEPT
        return is_kept_N

    def read(self, unit: int, columns: Sequence[str]) -> pa.Table:
        """Return the remaining pairs of a unit."""
        return self._read_all(unit, columns).filter(pa.array(self.is_kept(unit)))

    def read_kept(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Yield the remaining pairs of each unit, in order."""
        return (self.read(unit, columns) for unit in range(len(self._units)))

    def read_decisions(self, columns: Sequence[str]) -> Iterator[tuple[pa.Table, NDArray[np.int16]]]:
        """Yield all pairs of each unit with their decisions [N]: KEPT, or the number of a rule."""
        for unit, decision_N in enumerate(self._decisions):
            yield self._read_all(unit, columns), decision_N

    def drop(self, unit: int, is_dropped_K: NDArray[np.bool_], rule_number: int) -> None:
        """Drop some of the K remaining pairs of a unit."""
        decision_N = self._decisions[unit]
        (kept_K,) = np.nonzero(decision_N == KEPT)
        decision_N[kept_K[is_dropped_K]] = rule_number

    def _read_all(self, unit: int, columns: Sequence[str]) -> pa.Table:
        files = self._units[unit]
        names_by_file: dict[int, list[str]] = {}
        for name in columns:
            names_by_file.setdefault(self._file_number[name], []).append(name)
        tables = [pq.read_table(files[number], columns=names) for number, names in names_by_file.items()]
        return pa.table({name: table[name] for table in tables for name in table.column_names}).select(list(columns))
