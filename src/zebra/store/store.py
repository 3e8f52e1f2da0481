"""A store: pictures with vectors and words on disk, appended by one writer, read by anyone at any time."""

import errno
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from zebra.atomic_io import atomic_write, fsync_path
from zebra.errors import StoreError, suggest_name
from zebra.store.id_hash_set import IdHashSet
from zebra.store.lance_table import LanceError, LanceTable, in_clause
from zebra.store.metadata import StoreMetadata, read_store_metadata, require_same_model
from zebra.store.recovery import open_or_recover, recover_table
from zebra.store.schema import build_schema, validate_rows
from zebra.store.store_dir import Commit, StoreDir
from zebra.store.writer_lock import WriterLock

IMMUTABLE_COLUMNS = ("id", "digest", "vector")
"""Columns that make a row what it is; a changed picture is another row."""
MIN_SMALL_FILES = 32
"""Fewer are left alone: merging one more may write a million rows anew."""
MAX_IDS_PER_CONDITION = 4096
"""Ids that are named in one condition."""
DEFAULT_VERSION_RETENTION = timedelta(days=7)
NO_VERSION_CLEANUP = timedelta(days=36500)


@dataclass(frozen=True, slots=True)
class StoreVersion:
    """A state of a store that can be gone back to."""

    version: int
    num_rows: int
    timestamp: datetime


class Store:
    """A table of rows with the columns of `zebra.store.schema`, kept in a folder.

    What `append`, `delete`, `update`, `restore` and `compact` did is on disk when they return, and each happens as a
    whole or not at all. The first of them makes this the only writer, until `close`.
    A store that is only read stays at the version it was opened at.
    """

    def __init__(self, store_dir: StoreDir, table: LanceTable) -> None:
        """Wrap an opened table; use `create` or `open`."""
        self._dir = store_dir
        self._table = table
        self._lock = WriterLock(store_dir.lock_path)
        self._id_hashes: IdHashSet | None = None
        self.metadata = read_store_metadata(table.schema.metadata, str(store_dir.path))
        """About the model that filled it."""

    @classmethod
    def create(cls, path: Path, metadata: StoreMetadata, extra_columns: pa.Schema | None = None) -> "Store":
        """Make an empty store.

        Args:
            path: A folder, made if need be; other files in it are left alone.
            extra_columns: Further columns for whatever is known of a picture; all may be null.

        Raises:
            StoreError: There is one already, or it cannot be made there.
        """
        folder, schema = StoreDir(path), build_schema(metadata, extra_columns)
        lock = WriterLock(folder.lock_path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            lock.acquire()
            if folder.is_creation_incomplete():
                shutil.rmtree(folder.table_path, ignore_errors=True)
            if folder.table_path.exists():
                raise StoreError(f"{path} holds a store already; open it, or name another folder")
            before = folder.begin_commit(Commit(0, 0), "making the store")
            table = LanceTable.create(path, schema)
            folder.finish_commit(Commit(table.version, 0, last_rewrite_version=table.version), before)
            fsync_path(path.parent)
        except (OSError, LanceError) as error:
            raise _write_error("making the store", path, error) from error
        finally:
            lock.release()
        return cls(folder, table)

    @classmethod
    def open(cls, path: Path) -> "Store":
        """Open a store at its newest version; what a crash left behind is put right, with a warning.

        Raises:
            StoreError: There is none, it is damaged beyond repair, or a newer zebra or LanceDB wrote it.
        """
        folder = StoreDir(path)
        if not folder.table_path.is_dir() or folder.is_creation_incomplete():
            raise StoreError(
                f"there is no store in {path}; make one with: zebra embed MODEL DATA --out {path}"
            )
        return cls(folder, open_or_recover(folder))

    @property
    def path(self) -> Path:
        """The folder."""
        return self._dir.path

    @property
    def version(self) -> int:
        """The version that is read; every commit makes a new one."""
        return self._table.version

    @property
    def last_commit(self) -> Commit | None:
        """What was committed last, by whoever writes, as the store's folder says now; it costs reading a small file."""
        return self._dir.read_commit()

    @property
    def schema(self) -> pa.Schema:
        """Of the rows; its metadata holds the facts."""
        return self._table.schema

    def __len__(self) -> int:
        return self._table.count_rows()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Let others write."""
        self.close()

    def close(self) -> None:
        """Let others write; reading goes on."""
        self._lock.release()

    def require_fingerprint(self, fingerprint: str) -> None:
        """Refuse to go on with another model than the one whose vectors are here.

        Raises:
            StoreError: The fingerprint is another; the message names both.
        """
        require_same_model(self.metadata, fingerprint, str(self.path))

    def append(self, rows: pa.RecordBatch | pa.Table) -> int:
        """Add rows behind all others, in their order, as one commit.

        Args:
            rows: Columns in any order; those that may be null may be missing. Vectors of any float type are rounded
                to the store's. If their schema carries facts (as one made from `schema` does), they are compared.

        Returns:
            The new version.

        Raises:
            StoreError: Rows do not fit (`zebra.store.schema.conform`), an id is in the store, the disk is full, or
                another process is writing. Nothing was added then.
        """
        table = validate_rows(rows, self.schema, self.metadata, str(self.path))
        if not len(table):
            return self.version
        self._acquire_write_lock()
        if self._id_hashes is None:
            self._id_hashes = IdHashSet(batch["id"] for batch in self._table.scan(["id"]))
        ids = table["id"].to_pylist()
        there = self._find_existing_ids(self._id_hashes.possible_members(ids))
        if there:
            raise StoreError(
                f"{len(there)} of {len(ids)} ids are in {self.path} already, {there[0]!r} for one; nothing was added. "
                "Leave these rows out, or delete the old ones first"
            )
        with self._commit(f"adding {len(ids):,} rows", table.nbytes, append_only=True):
            self._table.append(table)
        self._id_hashes.add(ids)
        return self.version

    def append_file(self, path: Path, replace_ids: Sequence[str] = ()) -> int:
        """Remove some rows and add those of an Arrow file behind all others, as one commit.

        However many there are, they pass through a batch at a time.

        Args:
            path: An Arrow IPC file; its rows are as `append` takes them.
            replace_ids: Ids of the rows that go; they may come again in the file.

        Returns:
            The new version.

        Raises:
            StoreError: As `append`; nothing was added or removed then.
        """
        self._acquire_write_lock()
        with pa.memory_map(str(path)) as source:
            file = pa.ipc.open_file(source)
            numbers = range(file.num_record_batches)
            known, old = IdHashSet(batch["id"] for batch in self._table.scan(["id"])), set(replace_ids)
            for ids in (file.get_batch(number)["id"].to_pylist() for number in numbers):
                there = [name for name in known.possible_members(ids) if name not in old]
                if there:
                    raise StoreError(
                        f"the id {there[0]!r} of {path} is in {self.path} already, or there twice; nothing was added"
                    )
                known.add(ids)
                old.difference_update(ids)
            rows = (
                batch
                for number in numbers
                for batch in validate_rows(
                    file.get_batch(number), self.schema, self.metadata, str(self.path)
                ).to_batches()
            )
            with self._commit(f"adding {path.name}", path.stat().st_size):
                for first in range(0, len(replace_ids), MAX_IDS_PER_CONDITION):
                    self._table.delete(in_clause("id", replace_ids[first : first + MAX_IDS_PER_CONDITION]))
                self._table.append(pa.RecordBatchReader.from_batches(self.schema, rows))
        self._id_hashes = None
        return self.version

    def delete(self, ids: Sequence[str]) -> int:
        """Remove rows as one commit; ids that are not there are passed over.

        Returns:
            How many rows there were.
        """
        self._acquire_write_lock()
        there = self._find_existing_ids(ids)
        if there:
            with self._commit(f"deleting {len(there):,} rows"):
                self._table.delete(in_clause("id", there))
        return len(there)

    def update(self, ids: Sequence[str], values: Mapping[str, object]) -> int:
        """Set columns of some rows to one value each, as one commit; these rows move behind all others.

        Returns:
            How many rows there were.

        Raises:
            StoreError: A column is unknown, or is `id`, `digest` or `vector`; or a value does not fit.
        """
        self._require_columns(list(values))
        for name in IMMUTABLE_COLUMNS:
            if name in values:
                raise StoreError(
                    f"{name!r} of a row in {self.path} is fixed; delete the row and append another"
                )
        self._acquire_write_lock()
        there = self._find_existing_ids(ids)
        if there and values:
            with self._commit(f"updating {len(there):,} rows"):
                self._table.update(in_clause("id", there), values)
        return len(there)

    def scan(self, columns: Sequence[str], offset: int = 0) -> Iterator[pa.RecordBatch]:
        """Yield some columns of all rows from `offset` on, in the order of the store, a few thousand at a time.

        Raises:
            StoreError: A column is unknown.
        """
        self._require_columns(columns)
        return self._table.scan(columns, offset=offset)

    def take_ids(self, ids: Sequence[str], columns: Sequence[str] | None = None) -> pa.Table:
        """Return the rows of some ids, in the order asked for. To find them, all ids of the store are read.

        Raises:
            StoreError: An id is not there, or a column is unknown.
        """
        wanted = pa.array(ids, pa.string())
        places: dict[str, int] = {}
        first = 0
        for batch in self._table.scan(["id"]):
            found = np.flatnonzero(pc.is_in(batch["id"], wanted).to_numpy(zero_copy_only=False))
            places |= zip(batch["id"].take(found).to_pylist(), (first + found).tolist(), strict=True)
            first += batch.num_rows
        missing = [name for name in ids if name not in places]
        if missing:
            raise StoreError(
                f"{len(missing)} of {len(ids)} ids are not in {self.path}, {missing[0]!r} for one"
            )
        return self.take_positions([places[name] for name in ids], columns)

    def take_positions(self, positions: Sequence[int], columns: Sequence[str] | None = None) -> pa.Table:
        """Return the rows at some positions of the order of the store, in the order asked for.

        Raises:
            StoreError: A position is beyond the end, or a column is unknown.
        """
        names = list(columns or self.schema.names)
        self._require_columns(names)
        rows = len(self)
        beyond = [position for position in positions if not 0 <= position < rows]
        if beyond:
            raise StoreError(f"{self.path} has {rows:,} rows; there is none at {beyond[0]}")
        return self._table.take_positions(positions, names)

    def read_vectors(
        self, offset: int = 0
    ) -> tuple[pa.ChunkedArray, NDArray[np.float16] | NDArray[np.float32]]:
        """Read the vectors of all rows from `offset` on into memory.

        Returns:
            N ids as Arrow strings, and their vectors [N, E] in the store's type; in the order of the store.
        """
        vectors_NE = np.empty((len(self) - offset, self.metadata.embed_dim), self.metadata.dtype)
        ids, place = [], 0
        for batch in self._table.scan(["id", "vector"], offset=offset):
            ids.append(
                batch["id"].take(pa.array(np.arange(batch.num_rows)))
            )  # a copy: the batch holds vectors too
            flat = batch["vector"].flatten().to_numpy()
            vectors_NE[place : place + batch.num_rows] = flat.reshape(batch.num_rows, -1)
            place += batch.num_rows
        return pa.chunked_array(ids, pa.string()), vectors_NE

    def build_index(self, num_partitions: int) -> None:
        """Index the vectors for `nearest`, as one commit; rows that are added later are found without it.

        Args:
            num_partitions: Into which the rows are divided by their vectors.

        Raises:
            StoreError: There are fewer rows than partitions, the disk is full, or another process is writing.
        """
        self._acquire_write_lock()
        with self._commit("making the index", 2 * len(self) * self.metadata.embed_dim, append_only=True):
            self._table.build_index(num_partitions)

    def num_indexed(self) -> int | None:
        """Return how many rows are in the index; None without one."""
        return self._table.num_indexed()

    def search_index(
        self,
        vector_E: NDArray[np.float32],
        k: int,
        columns: Sequence[str],
        where: str | None,
        nprobes: int,
        refine_factor: int,
    ) -> pa.Table:
        """Return rows that are nearest to a vector by cosine, as far as the index finds them; all others with it.

        Args:
            where: A condition of the engine's language: none from outside (`zebra.search.conditions` writes it).
            nprobes: Partitions to look into.
            refine_factor: Times as many rows as asked for are compared by their own vectors.
        """
        return self._table.search_index(vector_E, k, columns, where, nprobes, refine_factor)

    def list_versions(self) -> list[StoreVersion]:
        """Return the versions that can be gone back to, oldest first."""
        return [StoreVersion(*version) for version in self._table.list_versions()]

    def restore(self, version: int) -> None:
        """Make an older version the newest, as a commit of its own.

        Raises:
            StoreError: There is no such version, or no more.
        """
        self._acquire_write_lock()
        numbers = [known.version for known in self.list_versions()]
        if version not in numbers:
            raise StoreError(f"{self.path} has no version {version}; it has {', '.join(map(str, numbers))}")
        with self._commit(f"going back to version {version}"):
            self._table.restore(version)
        self._id_hashes = None

    def compact(self, cleanup_older_than: timedelta = DEFAULT_VERSION_RETENTION) -> None:
        """Merge the files of many small commits into few, and remove old versions; nothing while there are few.

        Rows keep their order. What was merged takes its place twice, as long as an older version needs it.

        Args:
            cleanup_older_than: Younger versions stay, to be read by who has them open and to be restored.
        """
        self._acquire_write_lock()
        small = self._table.num_small_files()
        if small < MIN_SMALL_FILES:
            return
        merged = 0
        while merged != self.version:  # until there is nothing left to merge
            merged = self.version
            with self._commit(f"merging {small:,} files", append_only=True):  # or rather, changes no row
                self._table.compact(NO_VERSION_CLEANUP)
        with self._commit(
            "removing old versions", append_only=True
        ):  # not before what replaces them is flushed
            self._table.compact(cleanup_older_than)

    def export_parquet(self, path: Path) -> None:
        """Write all rows into one Parquet file, for tools that do not read Lance."""
        schema = self.schema
        try:
            with atomic_write(path) as partial, pq.ParquetWriter(partial, schema) as writer:
                for batch in self._table.scan(schema.names):
                    writer.write_batch(pa.RecordBatch.from_arrays(batch.columns, schema=schema))
        except OSError as error:
            raise _write_error(f"writing {path}", path.parent, error) from error

    def _require_columns(self, names: Sequence[str]) -> None:
        known = self.schema.names
        for name in names:
            if name not in known:
                raise StoreError(f"{self.path} has no column {name!r}.{suggest_name(name, known)}")

    def _find_existing_ids(self, ids: Sequence[str]) -> list[str]:
        """Return those of some ids that are in the store."""
        if not ids:
            return []
        return [
            name
            for batch in self._table.scan(["id"], in_clause("id", ids))
            for name in batch["id"].to_pylist()
        ]

    def _acquire_write_lock(self) -> None:
        """Take the lock, and go to the newest version: another may have written in the meantime."""
        if self._lock.is_held:
            return
        try:
            self._lock.acquire()
            if self._dir.needs_recovery() or self._dir.latest_version() != self.version:
                self._table = recover_table(self._dir)
                self._id_hashes = None
        except OSError as error:
            self._lock.release()
            raise _write_error("writing", self.path, error) from error
        except BaseException:
            self._lock.release()
            raise

    @contextmanager
    def _commit(self, operation: str, num_bytes: int = 0, *, append_only: bool = False) -> Iterator[None]:
        """Make what is done inside durable, as a whole or not at all.

        Args:
            append_only: It leaves all rows where they are, and adds none but behind them.
        """
        known = self._dir.read_commit() or Commit(0, 0)
        state = Commit(self.version, len(self), last_rewrite_version=known.last_rewrite_version)
        try:
            before = self._dir.begin_commit(state, operation)
            yield
            rewritten = known.last_rewrite_version if append_only else self.version
            self._dir.finish_commit(Commit(self.version, len(self), last_rewrite_version=rewritten), before)
        except (OSError, LanceError) as error:
            with suppress(OSError, LanceError):  # if not even that can be done, who writes next does it
                self._dir.roll_back(state)
                self._table = LanceTable.open(self.path)
            self._lock.release()
            raise _write_error(operation, self.path, error, num_bytes) from error
        except (
            BaseException
        ):  # interrupted, and LanceDB may still be at it: who writes next undoes what came of it
            self._lock.release()
            raise


def _write_error(operation: str, path: Path, error: OSError | LanceError, num_bytes: int = 0) -> StoreError:
    reason = error.message if isinstance(error, LanceError) else error.strerror
    message = f"{path}: {operation} failed: {os.strerror(error.errno) if error.errno else reason}"
    if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StoreError(f"{message}. What was committed before is untouched")
    with suppress(OSError):
        message += f" ({num_bytes:,} bytes to write, {shutil.disk_usage(path).free:,} free)"
    return StoreError(f"{message}. What was committed before is untouched: make room, and run again")
