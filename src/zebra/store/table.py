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

from zebra.errors import StoreError

NAME = "images"
CACHE_BYTES = 16 << 20
"""Of the metadata LanceDB keeps; by default it kept 400 MB after 1,000 commits."""
NOISE = re.compile(r"^(?:lance error: )?(?:LanceError\(\w+\): )?(?:.*Wrapped error: )?|,? /\S+\.rs:\d+:\d+")
"""Around what LanceDB has to say: its own types, and places in its source."""
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

    def scan(self, columns: Sequence[str], where: str | None = None) -> Iterator[pa.RecordBatch]:
        """Yield rows in their order, a few at a time."""
        with _translated(self.folder):
            query = self._lance.search().select(list(columns))
            yield from (query.where(where) if where else query).to_batches()

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

    session = lancedb.Session(index_cache_size_bytes=CACHE_BYTES, metadata_cache_size_bytes=CACHE_BYTES)
    return lancedb.connect(folder, session=session)


@contextmanager
def _translated(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError, ValueError, TypeError, pa.ArrowException) as error:
        if isinstance(error, StoreError):
            raise
        raise LanceError(folder, error) from error
