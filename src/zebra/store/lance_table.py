"""Wrapper around LanceDB; no other module imports it.

Only this module depends on the API of LanceDB, which changes between releases.
https://lancedb.github.io/lancedb (0.40)
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from zebra.errors import StoreError
from zebra.store.index_metadata import IndexType

TABLE_NAME = "images"
METADATA_CACHE_BYTES = 16 << 20
"""Limit of LanceDB's metadata cache. With the default it held 400 MB after 1,000 commits."""
IO_BUFFER_BYTES = 32 << 20
"""Limit of what a scan reads ahead. With LanceDB's default of 2 GB, merging 500,000 rows of 1.1 kB took 580 MB instead
of 370, in the same time."""
INDEX_NAME = "vector_idx"
RQ_BITS = 2
"""Bits per vector component of the index of a large store. With one, ten times as many candidates must be read."""
INDEX_CACHE_BYTES = 3 << 29
"""Limit of the index in memory, which grows with use: 1.6 GB. A larger index is read from disk again and again."""
ERROR_NOISE = re.compile(r"^(?:lance error: )?(?:LanceError\(\w+\): )?(?:.*Wrapped error: )?|,? /\S+\.rs:\d+:\d+")
"""Type names and source locations around the message of a LanceDB error."""
MAX_ROWS_FIXED_NPROBES = 1000
"""k above which `nprobes` partitions may hold too few rows."""
MAX_ROWS_PER_CONDITION = 4096
"""Limit of rows that one SQL condition names."""
ERRNO_PATTERN = re.compile(r"\(os error (\d+)\)")


class LanceError(StoreError):
    """An operation that failed in LanceDB."""

    def __init__(self, path: Path, error: Exception) -> None:
        self.message = ERROR_NOISE.sub("", str(error))
        super().__init__(f"{path}: {self.message}. Open the store again, which recovers it after a crash")
        match = ERRNO_PATTERN.search(self.message)
        self.errno = int(match[1]) if match else None
        """errno of the operating system, if LanceDB reported one."""
        self.needs_upgrade = "upgrade" in self.message or "newer version" in self.message
        """Whether the table needs a newer LanceDB."""


class LanceTable:
    """The table of one store, at one version."""

    def __init__(self, store_path: Path, table: Any) -> None:
        self.store_path = store_path
        self._table = table

    @classmethod
    def create(cls, store_path: Path, schema: pa.Schema) -> "LanceTable":
        """Create an empty table in a store directory."""
        with _translate_errors(store_path):
            return cls(store_path, _connect(store_path).create_table(TABLE_NAME, schema=schema))

    @classmethod
    def open(cls, store_path: Path) -> "LanceTable":
        """Open the latest version."""
        with _translate_errors(store_path):
            return cls(store_path, _connect(store_path).open_table(TABLE_NAME))

    @property
    def schema(self) -> pa.Schema:
        """Schema of the rows, with the metadata of `create`."""
        with _translate_errors(self.store_path):
            return self._table.schema

    @property
    def version(self) -> int:
        """Version that is read; it increases with every commit."""
        with _translate_errors(self.store_path):
            return int(self._table.version)

    def count_rows(self, where: str | None = None) -> int:
        """Count the rows, or those that match a condition."""
        with _translate_errors(self.store_path):
            return int(self._table.count_rows(where))

    def scan(self, columns: Sequence[str], where: str | None = None, offset: int = 0) -> Iterator[pa.RecordBatch]:
        """Yield the rows from `offset` on, in store order, in batches."""
        with _translate_errors(self.store_path):
            query = self._table.search().select(list(columns))
            query = query.where(where) if where else query
            yield from (query.offset(offset) if offset else query).to_batches()

    def take_positions(self, positions: Sequence[int], columns: Sequence[str]) -> pa.Table:
        """Return the rows at positions in store order, in the order of `positions`."""
        unique, inverse = np.unique(np.asarray(positions, dtype=np.int64), return_inverse=True)
        with _translate_errors(self.store_path):
            rows = self._table.take_offsets(unique.tolist()).select(list(columns)).to_arrow()
        return rows.take(pa.array(inverse))

    def append(self, rows: pa.Table | pa.RecordBatchReader) -> None:
        """Append rows in order; a reader is consumed batch by batch."""
        with _translate_errors(self.store_path):
            self._table.add(rows, write_parallelism=1)

    def delete_positions(self, positions: Sequence[int]) -> None:
        """Delete the rows at positions in store order.

        A condition on `_rowid` reads the matched rows only; one on 2,000 ids took seconds among 300,000 rows.
        """
        unique = np.unique(np.asarray(positions, dtype=np.int64)).tolist()
        row_ids: list[int] = []
        with _translate_errors(self.store_path):
            for start in range(0, len(unique), MAX_ROWS_PER_CONDITION):
                rows = self._table.take_offsets(unique[start : start + MAX_ROWS_PER_CONDITION]).select(["_rowid"])
                row_ids += rows.to_arrow()["_rowid"].to_pylist()
            for start in range(0, len(row_ids), MAX_ROWS_PER_CONDITION):
                condition = ", ".join(map(str, row_ids[start : start + MAX_ROWS_PER_CONDITION]))
                self._table.delete(f"_rowid IN ({condition})")

    def update(self, where: str, values: Mapping[str, object]) -> None:
        """Set columns of the matching rows to one value each; these rows move to the end."""
        with _translate_errors(self.store_path):
            self._table.update(where=where, values=dict(values))

    def add_columns(self, columns: pa.Schema) -> None:
        """Add columns without values."""
        with _translate_errors(self.store_path):
            self._table.add_columns(columns)

    def drop_columns(self, names: Sequence[str]) -> None:
        """Remove columns with their values."""
        with _translate_errors(self.store_path):
            self._table.drop_columns(list(names))

    def merge(self, rows: pa.Table) -> None:
        """Set the columns of `rows` in the rows of the same id; these move to the end. Other ids are ignored."""
        with _translate_errors(self.store_path):
            self._table.merge_insert("id").when_matched_update_all().execute(rows)

    def build_index(self, index_type: IndexType, num_partitions: int) -> None:
        """Build or replace the index for approximate cosine search.

        It groups the rows into partitions around centers. IVF_SQ keeps one byte per vector component, IVF_RQ keeps
        RQ_BITS bits by RaBitQ (https://arxiv.org/abs/2405.12497, https://arxiv.org/abs/2409.09913). The centers need
        far less than LanceDB's defaults of 256 rows each and 50 iterations, which take minutes for a thousand centers.
        """
        from lancedb import index

        centers: dict[str, Any] = {"num_partitions": num_partitions, "sample_rate": 64, "max_iterations": 20}
        config = (
            index.IvfSq(distance_type="cosine", **centers)
            if index_type == "IVF_SQ"
            else index.IvfRq(distance_type="cosine", num_bits=RQ_BITS, **centers)
        )
        with _translate_errors(self.store_path):
            self._table.create_index("vector", config=config, name=INDEX_NAME, replace=True)

    def index_stats(self) -> tuple[str, int] | None:
        """Return type and number of rows of the index; None without an index."""
        with _translate_errors(self.store_path):
            if INDEX_NAME not in (index.name for index in self._table.list_indices()):
                return None
            stats = self._table.index_stats(INDEX_NAME)
            return str(stats.index_type), int(stats.num_indexed_rows)

    def search_index(
        self,
        vector_E: NDArray[np.float32],
        k: int,
        columns: Sequence[str],
        where: str | None,
        nprobes: int,
        refine_factor: int,
    ) -> pa.Table:
        """Return the k nearest rows, best first; rows that are not in the index yet are scanned.

        Args:
            nprobes: Partitions to read. With a filter, or for a large k, more are read if these hold too few rows.
            refine_factor: Multiple of k candidates that are scored again with the full-precision vectors.
        """
        with _translate_errors(self.store_path):
            query = self._table.search(vector_E, vector_column_name="vector").distance_type("cosine")
            if where or k > MAX_ROWS_FIXED_NPROBES:  # costs 30 ms for a million rows
                query = query.minimum_nprobes(nprobes).maximum_nprobes(0)
            else:
                query = query.nprobes(nprobes)
            query = query.where(where, prefilter=True) if where else query
            small_columns = [name for name in columns if name != "vector"]
            query = query.refine_factor(refine_factor).limit(k)
            rows = query.select([*small_columns, "_rowid", "_distance"]).to_arrow()
            if "vector" not in columns or not len(rows):
                return rows
            # selected with the other columns, the vectors take three times as long
            vectors = self._table.take_row_ids(rows["_rowid"].to_pylist()).select(["_rowid", "vector"]).to_arrow()
            positions = pc.index_in(rows["_rowid"], vectors["_rowid"])
            return rows.append_column("vector", vectors["vector"].take(positions))

    def list_versions(self) -> Iterator[tuple[int, int, datetime]]:
        """Yield version, number of rows and timestamp of every existing version, oldest first."""
        with _translate_errors(self.store_path):
            for version in self._table.list_versions():
                yield int(version["version"]), int(version["metadata"]["total_rows"]), version["timestamp"]

    def restore(self, version: int) -> None:
        """Create a new version with the rows of an older one."""
        with _translate_errors(self.store_path):
            self._table.restore(version)

    def num_small_files(self) -> int:
        """Count the files that are small enough to merge."""
        with _translate_errors(self.store_path):
            return int(self._table.stats()["fragment_stats"]["num_small_fragments"])

    def compact(self, cleanup_older_than: timedelta, *, delete_unverified: bool = False) -> None:
        """Merge small files in a new version, and remove versions older than `cleanup_older_than`.

        Args:
            delete_unverified: Also remove files that no version names; they could be those of another writer.
        """
        with _translate_errors(self.store_path):
            age = max(cleanup_older_than, timedelta(milliseconds=1))  # optimize() warns about an age of 0
            self._table.optimize(cleanup_older_than=age, delete_unverified=delete_unverified)


def in_clause(column: str, values: Sequence[str]) -> str:
    """Return the SQL condition that a column has one of the values.

    >>> in_clause("id", ["a", "o'b"])
    "id IN ('a', 'o''b')"
    """
    quoted = ("'" + value.replace("'", "''") + "'" for value in values)
    return f"{column} IN ({', '.join(quoted)})"


def _connect(store_path: Path) -> Any:
    os.environ.setdefault("LANCE_DEFAULT_IO_BUFFER_SIZE", str(IO_BUFFER_BYTES))  # read by the first scan
    import lancedb  # takes a second

    session = lancedb.Session(index_cache_size_bytes=INDEX_CACHE_BYTES, metadata_cache_size_bytes=METADATA_CACHE_BYTES)
    return lancedb.connect(store_path, session=session)


@contextmanager
def _translate_errors(store_path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError, ValueError, TypeError, pa.ArrowException) as error:
        if isinstance(error, StoreError):
            raise
        raise LanceError(store_path, error) from error
