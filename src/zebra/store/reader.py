"""A store that is only read."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from zebra.errors import StoreError, suggest_name
from zebra.store.lance_table import LanceError, LanceTable
from zebra.store.metadata import read_store_metadata, require_same_model
from zebra.store.recovery import open_or_recover
from zebra.store.schema import BASE_COLUMNS
from zebra.store.store_dir import Commit, StoreDir


@dataclass(frozen=True, slots=True)
class StoreVersion:
    """A version of a store that `Store.restore` accepts."""

    version: int
    num_rows: int
    timestamp: datetime


class StoreReader:
    """The reading half of `zebra.store.Store`; it stays at the version that it was opened at."""

    def __init__(self, store_dir: StoreDir, table: LanceTable) -> None:
        """Wrap an opened table; use `open`."""
        self._dir = store_dir
        self._table = table
        self.metadata = read_store_metadata(table.schema.metadata, str(store_dir.path))
        """Model and vector format of the store."""

    @staticmethod
    def exists(path: Path) -> bool:
        """Return whether a directory holds a store; one whose creation was interrupted does not."""
        store_dir = StoreDir(path)
        return store_dir.table_path.is_dir() and not store_dir.is_creation_incomplete()

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a store at its latest version; after a crash, recover it and warn.

        Raises:
            StoreError: There is no store, it is damaged beyond repair, or a newer zebra or LanceDB wrote it.
        """
        if not cls.exists(path):
            raise StoreError(f"there is no store in {path}. Create one with: zebra embed MODEL DATA --out {path}")
        store_dir = StoreDir(path)
        return cls(store_dir, open_or_recover(store_dir))

    @property
    def path(self) -> Path:
        """Directory of the store."""
        return self._dir.path

    @property
    def version(self) -> int:
        """Version that is read; every commit creates a new one."""
        return self._table.version

    @property
    def last_commit(self) -> Commit | None:
        """Last commit of any writer, read from commit.json now."""
        return self._dir.read_commit()

    @property
    def schema(self) -> pa.Schema:
        """Schema of the rows, with the store's metadata."""
        return self._table.schema

    @property
    def extra_columns(self) -> pa.Schema:
        """The columns beyond those of every store."""
        return pa.schema([field for field in self.schema if field.name not in BASE_COLUMNS])

    def __len__(self) -> int:
        return self._table.count_rows()

    def require_fingerprint(self, fingerprint: str) -> None:
        """Check that a model is the one that embedded this store.

        Raises:
            StoreError: The fingerprints differ; the message names both.
        """
        require_same_model(self.metadata, fingerprint, str(self.path))

    def scan(self, columns: Sequence[str], offset: int = 0) -> Iterator[pa.RecordBatch]:
        """Yield columns of all rows from `offset` on, in store order, in batches of a few thousand.

        Raises:
            StoreError: A column is unknown.
        """
        self._require_columns(columns)
        return self._table.scan(columns, offset=offset)

    def take_ids(self, ids: Sequence[str], columns: Sequence[str] | None = None) -> pa.Table:
        """Return the rows with these ids, in the order of `ids`. Reads all ids of the store.

        Raises:
            StoreError: An id is not in the store, or a column is unknown.
        """
        positions = self._find_positions(ids)
        missing = [id for id in ids if id not in positions]
        if missing:
            raise StoreError(f"{len(missing)} of {len(ids)} ids are not in {self.path}, for example {missing[0]!r}")
        return self.take_positions([positions[id] for id in ids], columns)

    def take_positions(self, positions: Sequence[int], columns: Sequence[str] | None = None) -> pa.Table:
        """Return the rows at positions in store order, in the order of `positions`.

        Raises:
            StoreError: A position is out of range, or a column is unknown.
        """
        names = list(columns or self.schema.names)
        self._require_columns(names)
        num_rows = len(self)
        invalid = [position for position in positions if not 0 <= position < num_rows]
        if invalid:
            raise StoreError(f"position {invalid[0]} is out of range: {self.path} has {num_rows:,} rows")
        return self._table.take_positions(positions, names)

    def read_vectors(self, offset: int = 0) -> tuple[pa.ChunkedArray, NDArray[np.float16] | NDArray[np.float32]]:
        """Read the vectors of all rows from `offset` on into memory.

        Returns:
            N ids as Arrow strings, and their vectors [N, E] in the store's data type; both in store order.
        """
        vectors_NE = np.empty((len(self) - offset, self.metadata.embed_dim), self.metadata.dtype)
        ids, start = [], 0
        for batch in self._table.scan(["id", "vector"], offset=offset):
            # take() copies, so that the ids do not keep the vectors of the batch in memory
            ids.append(batch["id"].take(pa.array(np.arange(batch.num_rows))))
            flat = batch["vector"].flatten().to_numpy()
            vectors_NE[start : start + batch.num_rows] = flat.reshape(batch.num_rows, -1)
            start += batch.num_rows
        return pa.chunked_array(ids, pa.string()), vectors_NE

    def num_indexed(self) -> int | None:
        """Return the number of rows in the index; None without an index."""
        stats = self._table.index_stats()
        return stats[1] if stats else None

    def index_type(self) -> str | None:
        """Return the type of the index, a name of LanceDB; None without an index."""
        stats = self._table.index_stats()
        return stats[0] if stats else None

    def search_index(
        self,
        vector_E: NDArray[np.float32],
        k: int,
        columns: Sequence[str],
        where: str | None,
        nprobes: int,
        refine_factor: int,
    ) -> pa.Table:
        """Return the k rows nearest to a vector by cosine, found by approximate search.

        Args:
            where: An SQL condition from `zebra.search.conditions`; never pass user input.
            nprobes: Partitions to read.
            refine_factor: Multiple of k candidates that are scored again with the full-precision vectors.

        Raises:
            StoreError: The index is damaged.
        """
        try:
            return self._table.search_index(vector_E, k, columns, where, nprobes, refine_factor)
        except LanceError as error:
            raise StoreError(
                f"{self.path}: searching the index failed: {error.message}. Build it again with: zebra search "
                f"{self.path} --index, or search with --method exact"
            ) from error

    def list_versions(self) -> list[StoreVersion]:
        """Return the versions that `restore` accepts, oldest first."""
        return [StoreVersion(*version) for version in self._table.list_versions()]

    def _find_positions(self, ids: Sequence[str]) -> dict[str, int]:
        """Return the positions of those ids that are in the store. Reads all ids of the store."""
        id_array = pa.array(ids, pa.string())
        positions: dict[str, int] = {}
        offset = 0
        for batch in self._table.scan(["id"]) if ids else ():
            matches = np.flatnonzero(pc.is_in(batch["id"], id_array).to_numpy(zero_copy_only=False))
            positions |= zip(batch["id"].take(matches).to_pylist(), (offset + matches).tolist(), strict=True)
            offset += batch.num_rows
        return positions

    def _require_columns(self, names: Sequence[str]) -> None:
        columns = self.schema.names
        for name in names:
            if name not in columns:
                raise StoreError(f"{self.path} has no column {name!r}.{suggest_name(name, columns)}")
