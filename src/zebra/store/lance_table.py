"""The thin layer over LanceDB, which nothing else of zebra imports: Arrow tables in, batches of rows out.

https://lancedb.github.io/lancedb (0.40): its names move between releases, so all that is used of it stands here.
"""

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

TABLE_NAME = "images"
METADATA_CACHE_BYTES = 16 << 20
"""Of the metadata LanceDB keeps; by default it kept 400 MB after 1,000 commits."""
INDEX_NAME = "vector_idx"
INDEX_CACHE_BYTES = 4 << 30
"""At most of an index in memory, which takes what it needs as it is used: a byte for each number of a vector."""
ERROR_NOISE = re.compile(
    r"^(?:lance error: )?(?:LanceError\(\w+\): )?(?:.*Wrapped error: )?|,? /\S+\.rs:\d+:\d+"
)
"""Around what LanceDB has to say: its own types, and places in its source."""
MAX_ROWS_FIXED_NPROBES = 1000
"""Rows asked for above which the partitions looked into may not hold so many."""
ERRNO_PATTERN = re.compile(r"\(os error (\d+)\)")


class LanceError(StoreError):
    """A file that LanceDB could not read or write, or something it was asked that it cannot do."""

    def __init__(self, path: Path, error: Exception) -> None:
        self.message = ERROR_NOISE.sub("", str(error))
        super().__init__(f"{path}: {self.message}. Open it again: what a crash left behind is put right then")
        number = ERRNO_PATTERN.search(self.message)
        self.errno = int(number[1]) if number else None
        """The operating system's number of the error, where LanceDB gave one."""
        self.needs_upgrade = "upgrade" in self.message or "newer version" in self.message
        """The table needs a newer LanceDB."""


class LanceTable:
    """The rows of one store, at the version it was opened at or brought to."""

    def __init__(self, store_path: Path, table: Any) -> None:
        self.store_path = store_path
        self._table = table

    @classmethod
    def create(cls, store_path: Path, schema: pa.Schema) -> "LanceTable":
        """Make an empty table in a store's folder."""
        with _translate_errors(store_path):
            return cls(store_path, _connect(store_path).create_table(TABLE_NAME, schema=schema))

    @classmethod
    def open(cls, store_path: Path) -> "LanceTable":
        """Open the newest version."""
        with _translate_errors(store_path):
            return cls(store_path, _connect(store_path).open_table(TABLE_NAME))

    @property
    def schema(self) -> pa.Schema:
        """Of the rows, with the metadata it was made with."""
        with _translate_errors(self.store_path):
            return self._table.schema

    @property
    def version(self) -> int:
        """Counts up with every commit."""
        with _translate_errors(self.store_path):
            return int(self._table.version)

    def count_rows(self, where: str | None = None) -> int:
        """Count rows."""
        with _translate_errors(self.store_path):
            return int(self._table.count_rows(where))

    def scan(
        self, columns: Sequence[str], where: str | None = None, offset: int = 0
    ) -> Iterator[pa.RecordBatch]:
        """Yield rows in their order, those before `offset` left out, a few at a time."""
        with _translate_errors(self.store_path):
            query = self._table.search().select(list(columns))
            query = query.where(where) if where else query
            yield from (query.offset(offset) if offset else query).to_batches()

    def take_positions(self, positions: Sequence[int], columns: Sequence[str]) -> pa.Table:
        """Return the rows at positions of the scan's order, in the order asked for."""
        unique, inverse = np.unique(np.asarray(positions, dtype=np.int64), return_inverse=True)
        with _translate_errors(self.store_path):
            rows = self._table.take_offsets(unique.tolist()).select(list(columns)).to_arrow()
        return rows.take(pa.array(inverse))

    def append(self, rows: pa.Table | pa.RecordBatchReader) -> None:
        """Add rows behind all others, in their order; those of a reader pass through one batch at a time."""
        with _translate_errors(self.store_path):
            self._table.add(rows, write_parallelism=1)

    def delete(self, where: str) -> None:
        """Remove rows."""
        with _translate_errors(self.store_path):
            self._table.delete(where)

    def update(self, where: str, values: Mapping[str, object]) -> None:
        """Set columns of some rows to one value each; they move behind all others."""
        with _translate_errors(self.store_path):
            self._table.update(where=where, values=dict(values))

    def build_index(self, num_partitions: int) -> None:
        """Index the vectors for approximate search by cosine, in place of the index there may be.

        IVF_SQ: rows lie in partitions around centres, each number of a vector in one byte. The centres need far less
        than LanceDB's 256 rows each and 50 rounds, which take minutes for a thousand of them.
        """
        from lancedb.index import IvfSq

        config = IvfSq(
            distance_type="cosine", num_partitions=num_partitions, sample_rate=64, max_iterations=20
        )
        with _translate_errors(self.store_path):
            self._table.create_index("vector", config=config, name=INDEX_NAME, replace=True)

    def num_indexed(self) -> int | None:
        """Count the rows that are in the index; None without one."""
        with _translate_errors(self.store_path):
            if INDEX_NAME not in (index.name for index in self._table.list_indices()):
                return None
            return int(self._table.index_stats(INDEX_NAME).num_indexed_rows)

    def search_index(
        self,
        vector_E: NDArray[np.float32],
        k: int,
        columns: Sequence[str],
        where: str | None,
        nprobes: int,
        refine_factor: int,
    ) -> pa.Table:
        """Return the rows that the index finds, the nearest first; rows that it does not hold yet are looked at too.

        Args:
            nprobes: Partitions to look into; with a filter, or for very many rows, more if these do not hold enough.
            refine_factor: Times as many rows as asked for are compared by their own vectors.
        """
        with _translate_errors(self.store_path):
            query = self._table.search(vector_E, vector_column_name="vector").distance_type("cosine")
            if where or k > MAX_ROWS_FIXED_NPROBES:  # at a price of 30 ms for a million rows
                query = query.minimum_nprobes(nprobes).maximum_nprobes(0)
            else:
                query = query.nprobes(nprobes)
            query = query.where(where, prefilter=True) if where else query
            light = [name for name in columns if name != "vector"]
            query = query.refine_factor(refine_factor).limit(k)
            rows = query.select([*light, "_rowid", "_distance"]).to_arrow()
            if "vector" not in columns or not len(rows):
                return rows
            # asked for with the rest, vectors take three times as long
            taken = (
                self._table.take_row_ids(rows["_rowid"].to_pylist()).select(["_rowid", "vector"]).to_arrow()
            )
            places = pc.index_in(rows["_rowid"], taken["_rowid"])
            return rows.append_column("vector", taken["vector"].take(places))

    def list_versions(self) -> Iterator[tuple[int, int, datetime]]:
        """Yield number, rows and time of every version there still is, oldest first."""
        with _translate_errors(self.store_path):
            for version in self._table.list_versions():
                yield int(version["version"]), int(version["metadata"]["total_rows"]), version["timestamp"]

    def restore(self, version: int) -> None:
        """Make a new version that equals an older one."""
        with _translate_errors(self.store_path):
            self._table.restore(version)

    def num_small_files(self) -> int:
        """Count the files that are worth being merged."""
        with _translate_errors(self.store_path):
            return int(self._table.stats()["fragment_stats"]["num_small_fragments"])

    def compact(self, cleanup_older_than: timedelta) -> None:
        """Make few files of many small ones, in a new version, and remove versions older than `cleanup_older_than`."""
        with _translate_errors(self.store_path):
            self._table.optimize(
                cleanup_older_than=max(cleanup_older_than, timedelta(milliseconds=1))
            )  # it warns of a plain 0


def in_clause(column: str, values: Sequence[str]) -> str:
    """Return the condition that a column has one of some values.

    >>> in_clause("id", ["a", "o'b"])
    "id IN ('a', 'o''b')"
    """
    quoted = ("'" + value.replace("'", "''") + "'" for value in values)
    return f"{column} IN ({', '.join(quoted)})"


def _connect(store_path: Path) -> Any:
    import lancedb  # takes a second

    session = lancedb.Session(
        index_cache_size_bytes=INDEX_CACHE_BYTES, metadata_cache_size_bytes=METADATA_CACHE_BYTES
    )
    return lancedb.connect(store_path, session=session)


@contextmanager
def _translate_errors(store_path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError, ValueError, TypeError, pa.ArrowException) as error:
        if isinstance(error, StoreError):
            raise
        raise LanceError(store_path, error) from error
