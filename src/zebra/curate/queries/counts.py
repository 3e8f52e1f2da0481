"""Exact counts of many distinct values in bounded memory."""

import zlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

MAX_VALUES = 4_000_000
"""Distinct values in memory; more are written to disk."""
NUM_PARTITIONS = 64
"""Parts of the values on disk, by hash; one is in memory at a time."""


class SpillingCounter:
    """Adds up counts of values. Values of one partition are together in each file that is written."""

    def __init__(self, folder: Path, value_type: pa.DataType) -> None:
        """Count values of the type string or int64.

        Args:
            folder: Where files are written; it must exist.
        """
        self._folder = folder
        self.value_type = value_type
        self._schema = pa.schema({"value": value_type, "count": pa.int64()})
        self._tables: list[pa.Table] = []
        self._num_rows = 0
        self._files: list[Path] = []

    def add(self, values: pa.Array, counts: pa.Array) -> None:
        """Add counts of some values."""
        self._tables.append(pa.table([values, counts], self._schema))
        self._num_rows += len(values)
        if self._num_rows > 2 * MAX_VALUES:
            self._tables = [_sum_counts(self._tables)]
            self._num_rows = len(self._tables[0])
            if self._num_rows > MAX_VALUES:
                self._spill()

    def totals(self, min_count: int) -> Iterator[pa.Table]:
        """Yield tables of `value` and `count` that together have each value once, without those below the minimum."""
        if self._files and self._tables:
            self._spill()
        for partition in range(NUM_PARTITIONS if self._files else 1):
            tables = [_read_partition(file, partition) for file in self._files] or self._tables
            if tables:
                table = _sum_counts(tables)
                yield table.filter(pc.greater_equal(table["count"], min_count))

    def _spill(self) -> None:
        table = _sum_counts(self._tables)
        partition_N = _to_partition(table["value"])
        order_N = np.argsort(partition_N, kind="stable")
        ends = np.searchsorted(partition_N[order_N], np.arange(NUM_PARTITIONS + 1))
        table = table.take(pa.array(order_N)).combine_chunks()
        path = self._folder / f"{len(self._files):06d}.arrow"
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, self._schema) as writer:
            for start, stop in pairwise(ends.tolist()):
                columns = [column.combine_chunks() for column in table.slice(start, stop - start).columns]
                writer.write_batch(pa.record_batch(columns, schema=self._schema))
        self._files.append(path)
        self._tables, self._num_rows = [], 0


def _read_partition(path: Path, partition: int) -> pa.Table:
    with pa.OSFile(str(path)) as file:
        return pa.Table.from_batches([pa.ipc.open_file(file).get_batch(partition)])


def _sum_counts(tables: list[pa.Table]) -> pa.Table:
    sums = pa.concat_tables(tables).group_by("value").aggregate([("count", "sum")])
    return sums.select(["value", "count_sum"]).rename_columns(["value", "count"])


def _to_partition(values: pa.ChunkedArray) -> NDArray[np.int64]:
    if pa.types.is_integer(values.type):
        value_N: NDArray[np.int64] = values.to_numpy()
        return value_N % NUM_PARTITIONS
    return np.fromiter((zlib.crc32(value.encode()) % NUM_PARTITIONS for value in values.to_pylist()), np.int64)
