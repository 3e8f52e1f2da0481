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

NAME = "images"
CACHE_BYTES = 16 << 20
"""Of the metadata LanceDB keeps; by default it kept 400 MB after 1,000 commits."""
INDEX = "vector_idx"
INDEX_BYTES = 4 << 30
"""At most of an index in memory, which takes what it needs as it is used: a byte for each number of a vector."""
NOISE = re.compile(r"^(?:lance error: )?(?:LanceError\(\w+\): )?(?:.*Wrapped error: )?|,? /\S+\.rs:\d+:\d+")
"""Around what LanceDB has to say: its own types, and places in its source."""
PLENTY = 1000
"""Rows asked for above which the partitions looked into may not hold so many."""
ERRNO = re.compile(r"\(os error (\d+)\)")


class LanceError(StoreError):
    """A file that LanceDB could not read or write, or something it was asked that it cannot do."""

    def __init__(self, where: Path, error: Exception) -> None:
        self.said = NOISE.sub("", str(error))
        super().__init__(f"{where}: {self.said}. Open it again: what a crash left behind is put right then")
        number = ERRNO.search(self.said)
        self.errno = int(number[1]) if number else None
        """The operating system's number of the error, where LanceDB gave one."""
        self.newer = "upgrade" in self.said or "newer version" in self.said
        """The table needs a newer LanceDB."""


class Table:
    """The rows of one store, at the version it was opened at or brought to."""

    def __init__(self, folder: Path, lance: Any) -> None:
        self.folder = folder
        self._lance = lance

    @classmethod
    def create(cls, folder: Path, schema: pa.Schema) -> "Table":
        """Make an empty table in a store's folder."""
        with _translated(folder):
            return cls(folder, _connect(folder).create_table(NAME, schema=schema))

    @classmethod
    def open(cls, folder: Path) -> "Table":
        """Open the newest version."""
        with _translated(folder):
            return cls(folder, _connect(folder).open_table(NAME))

    @property
    def schema(self) -> pa.Schema:
        """Of the rows, with the metadata it was made with."""
        with _translated(self.folder):
            return self._lance.schema

    @property
    def version(self) -> int:
        """Counts up with every commit."""
        with _translated(self.folder):
            return int(self._lance.version)

    def count(self, where: str | None = None) -> int:
        """Count rows."""
        with _translated(self.folder):
            return int(self._lance.count_rows(where))

    def scan(
        self, columns: Sequence[str], where: str | None = None, first: int = 0
    ) -> Iterator[pa.RecordBatch]:
        """Yield rows in their order, those before `first` left out, a few at a time."""
        with _translated(self.folder):
            query = self._lance.search().select(list(columns))
            query = query.where(where) if where else query
            yield from (query.offset(first) if first else query).to_batches()

    def at(self, positions: Sequence[int], columns: Sequence[str]) -> pa.Table:
        """Return the rows at positions of the scan's order, in the order asked for."""
        unique, inverse = np.unique(np.asarray(positions, dtype=np.int64), return_inverse=True)
        with _translated(self.folder):
            rows = self._lance.take_offsets(unique.tolist()).select(list(columns)).to_arrow()
        return rows.take(pa.array(inverse))

    def append(self, rows: pa.Table | pa.RecordBatchReader) -> None:
        """Add rows behind all others, in their order; those of a reader pass through one batch at a time."""
        with _translated(self.folder):
            self._lance.add(rows, write_parallelism=1)

    def delete(self, where: str) -> None:
        """Remove rows."""
        with _translated(self.folder):
            self._lance.delete(where)

    def update(self, where: str, values: Mapping[str, object]) -> None:
        """Set columns of some rows to one value each; they move behind all others."""
        with _translated(self.folder):
            self._lance.update(where=where, values=dict(values))

    def build_index(self, partitions: int) -> None:
        """Index the vectors for approximate search by cosine, in place of the index there may be.

        IVF_SQ: rows lie in partitions around centres, each number of a vector in one byte. The centres need far less
        than LanceDB's 256 rows each and 50 rounds, which take minutes for a thousand of them.
        """
        from lancedb.index import IvfSq

        config = IvfSq(distance_type="cosine", num_partitions=partitions, sample_rate=64, max_iterations=20)
        with _translated(self.folder):
            self._lance.create_index("vector", config=config, name=INDEX, replace=True)

    def num_indexed(self) -> int | None:
        """Count the rows that are in the index; None without one."""
        with _translated(self.folder):
            if INDEX not in (index.name for index in self._lance.list_indices()):
                return None
            return int(self._lance.index_stats(INDEX).num_indexed_rows)

    def nearest(
        self,
        vector_E: NDArray[np.float32],
        count: int,
        columns: Sequence[str],
        where: str | None,
        probes: int,
        refine: int,
    ) -> pa.Table:
        """Return the rows that the index finds, the nearest first; rows that it does not hold yet are looked at too.

        Args:
            probes: Partitions to look into; with a filter, or for very many rows, more if these do not hold enough.
            refine: Times as many rows as asked for are compared by their own vectors.
        """
        with _translated(self.folder):
            query = self._lance.search(vector_E, vector_column_name="vector").distance_type("cosine")
            if where or count > PLENTY:  # at a price of 30 ms for a million rows
                query = query.minimum_nprobes(probes).maximum_nprobes(0)
            else:
                query = query.nprobes(probes)
            query = query.where(where, prefilter=True) if where else query
            light = [name for name in columns if name != "vector"]
            query = query.refine_factor(refine).limit(count)
            rows = query.select([*light, "_rowid", "_distance"]).to_arrow()
            if "vector" not in columns or not len(rows):
                return rows
            # asked for with the rest, vectors take three times as long
            taken = (
                self._lance.take_row_ids(rows["_rowid"].to_pylist()).select(["_rowid", "vector"]).to_arrow()
            )
            places = pc.index_in(rows["_rowid"], taken["_rowid"])
            return rows.append_column("vector", taken["vector"].take(places))

    def versions(self) -> Iterator[tuple[int, int, datetime]]:
        """Yield number, rows and time of every version there still is, oldest first."""
        with _translated(self.folder):
            for version in self._lance.list_versions():
                yield int(version["version"]), int(version["metadata"]["total_rows"]), version["timestamp"]

    def restore(self, version: int) -> None:
        """Make a new version that equals an older one."""
        with _translated(self.folder):
            self._lance.restore(version)

    def num_small_files(self) -> int:
        """Count the files that are worth being merged."""
        with _translated(self.folder):
            return int(self._lance.stats()["fragment_stats"]["num_small_fragments"])

    def compact(self, keep: timedelta) -> None:
        """Make few files of many small ones, in a new version, and remove versions older than `keep`."""
        with _translated(self.folder):
            self._lance.optimize(
                cleanup_older_than=max(keep, timedelta(milliseconds=1))
            )  # it warns of a plain 0


def among(column: str, values: Sequence[str]) -> str:
    """Return the condition that a column has one of some values.

    >>> among("id", ["a", "o'b"])
    "id IN ('a', 'o''b')"
    """
    quoted = ("'" + value.replace("'", "''") + "'" for value in values)
    return f"{column} IN ({', '.join(quoted)})"


def _connect(folder: Path) -> Any:
    import lancedb  # takes a second

    session = lancedb.Session(index_cache_size_bytes=INDEX_BYTES, metadata_cache_size_bytes=CACHE_BYTES)
    return lancedb.connect(folder, session=session)


@contextmanager
def _translated(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError, ValueError, TypeError, pa.ArrowException) as error:
        if isinstance(error, StoreError):
            raise
        raise LanceError(folder, error) from error
