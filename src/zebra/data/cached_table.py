"""A table in a memory-mapped Arrow file in the user's cache."""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import pyarrow as pa

from zebra.config.cache import cache_dir
from zebra.errors import DataError

CACHE_FORMAT_VERSION = 2
"""Increase it when older cache files would be read wrongly."""
ROWS_PER_BATCH = 4096
BYTES_PER_BATCH = 32 << 20
"""Limits of a batch in memory while a cache file is written."""

RowValues = tuple[Any, ...]


class CachedTable:
    """Rows of one schema, mapped from disk; only the path is pickled to workers."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.digest = path.stem.partition(".")[2]
        """SHA-256 in hex over all rows."""
        self._arrow_table: pa.Table | None = None
        self._num_rows = int(self.arrow_table.num_rows)

    @classmethod
    def open_or_build(cls, key: Sequence[object], schema: pa.Schema, rows: Iterable[RowValues]) -> Self:
        """Map the cache file of `key`, or write it from `rows`, one batch in memory at a time.

        Args:
            key: Everything that the rows depend on: paths, sizes, times, options.
            schema: Names and types of the columns.
            rows: One tuple per row in the order of the schema; read only if there is no cache file.

        Raises:
            DataError: The cache cannot be written. Errors of `rows` are passed on.
        """
        name = hashlib.sha256(repr((CACHE_FORMAT_VERSION, *key)).encode("utf-8", "surrogateescape")).hexdigest()[:32]
        folder = cache_dir() / "indexes"
        for path in sorted(folder.glob(f"{name}.*.arrow")):
            try:
                return cls(path)
            except (OSError, pa.ArrowException):  # a damaged file is written again
                continue
        try:
            folder.mkdir(parents=True, exist_ok=True)
            return cls(_write_cache_file(folder, name, schema, rows))
        except OSError as error:
            raise DataError(
                f"cannot write an index of the data in {folder} ({error.strerror or error}). "
                "Set ZEBRA_CACHE to a folder with free space"
            ) from error

    def __len__(self) -> int:
        return self._num_rows

    @property
    def arrow_table(self) -> pa.Table:
        """All rows; memory-mapped, so that only accessed parts are read."""
        if self._arrow_table is None:
            self._arrow_table = pa.ipc.open_file(pa.memory_map(str(self.path))).read_all()
        return self._arrow_table

    def row(self, index: int) -> dict[str, Any]:
        """Return one row as Python values."""
        return {name: self.arrow_table[name][index].as_py() for name in self.arrow_table.schema.names}

    def close(self) -> None:
        """Unmap the file until the next use."""
        self._arrow_table = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_arrow_table": None}


def _write_cache_file(folder: Path, name: str, schema: pa.Schema, rows: Iterable[RowValues]) -> Path:
    """Write to a temporary file and rename it, since the final name has the digest of the rows."""
    digest = hashlib.sha256()
    descriptor, partial = tempfile.mkstemp(suffix=".partial", dir=folder)
    os.close(descriptor)
    try:
        with pa.OSFile(partial, "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            for batch in _iter_batches(rows, digest):
                columns = [
                    pa.array(column, field.type) for column, field in zip(zip(*batch, strict=True), schema, strict=True)
                ]
                writer.write_batch(pa.record_batch(columns, schema=schema))
        path = folder / f"{name}.{digest.hexdigest()}.arrow"
        Path(partial).replace(path)
    finally:
        Path(partial).unlink(missing_ok=True)
    return path


def _hash_bytes(value: object) -> str:
    assert isinstance(value, bytes)
    return hashlib.sha256(value).hexdigest()


def _iter_batches(rows: Iterable[RowValues], digest: "hashlib._Hash") -> Iterator[list[RowValues]]:
    """Yield rows in lists of limited size, and update the digest with each row."""
    batch: list[RowValues] = []
    num_bytes = 0
    for row in rows:
        encoded = json.dumps(row, default=_hash_bytes).encode()
        digest.update(encoded)
        batch.append(row)
        num_bytes += len(encoded) + sum(len(value) for value in row if isinstance(value, bytes))
        if len(batch) == ROWS_PER_BATCH or num_bytes > BYTES_PER_BATCH:
            yield batch
            batch, num_bytes = [], 0
    if batch:
        yield batch
