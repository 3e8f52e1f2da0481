"""A store of images with vectors and captions: one writer, any number of readers."""

import errno
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa

from zebra.atomic_io import fsync_path
from zebra.errors import StoreError
from zebra.store.id_hash_set import IdHashSet
from zebra.store.index_metadata import IndexType
from zebra.store.lance_table import LanceError, LanceTable, in_clause
from zebra.store.metadata import StoreMetadata
from zebra.store.reader import StoreReader
from zebra.store.recovery import recover_table
from zebra.store.schema import build_schema, validate_ids, validate_rows
from zebra.store.store_dir import Commit, StoreDir
from zebra.store.writer_lock import WriterLock

IMMUTABLE_COLUMNS = ("id", "digest", "vector")
"""Columns that identify a row; a changed image is a new row."""
MIN_SMALL_FILES = 32
"""Small files from which `compact` merges: merging one more file may rewrite a million rows."""
DEFAULT_VERSION_RETENTION = timedelta(days=7)
OWN_VERSION_RETENTION = timedelta(minutes=10)
"""Age from which `compact` removes the versions between a writer's first and its latest, which only readers need that
opened them. Otherwise a run of 10⁷ rows would keep 5,000 versions, and all rows twice, for a week."""
NO_VERSION_CLEANUP = timedelta(days=36500)


class Store(StoreReader):
    """A table on disk with the columns of `zebra.store.schema`.

    `append`, `delete`, `update`, `restore` and `compact` are atomic and durable when they return. The first of them
    takes the writer lock, until `close`. A store that is only read stays at the version that it was opened at.
    """

    def __init__(self, store_dir: StoreDir, table: LanceTable) -> None:
        """Wrap an opened table; use `create` or `open`."""
        super().__init__(store_dir, table)
        self._lock = WriterLock(store_dir.lock_path)
        self._id_hashes: IdHashSet | None = None
        self._first_own_version = 0
        """Version at which the writer lock was taken."""

    @classmethod
    def create(cls, path: Path, metadata: StoreMetadata, extra_columns: pa.Schema | None = None) -> "Store":
        """Create an empty store.

        Args:
            path: A directory, created if it is missing; other files in it are not touched.
            extra_columns: Columns beyond those of zebra; they become nullable.

        Raises:
            StoreError: The directory holds a store already, or is not writable.
        """
        store_dir, schema = StoreDir(path), build_schema(metadata, extra_columns)
        lock = WriterLock(store_dir.lock_path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            lock.acquire()
            if store_dir.is_creation_incomplete():
                shutil.rmtree(store_dir.table_path, ignore_errors=True)
            if store_dir.table_path.exists():
                raise StoreError(f"{path} already holds a store. Open it, or name another directory")
            old_files = store_dir.begin_commit(Commit(0, 0), "creating the store")
            table = LanceTable.create(path, schema)
            store_dir.finish_commit(Commit(table.version, 0, last_rewrite_version=table.version), old_files)
            fsync_path(path.parent)
        except (OSError, LanceError) as error:
            raise _write_error("creating the store", path, error) from error
        finally:
            lock.release()
        return cls(store_dir, table)

    def __enter__(self) -> Self:
        """Return the store."""
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Release the writer lock."""
        self.close()

    def close(self) -> None:
        """Release the writer lock; the store stays readable."""
        self._lock.release()

    def append(self, rows: pa.RecordBatch | pa.Table) -> int:
        """Append rows in order, as one commit. The first call reads all ids.

        Args:
            rows: Columns in any order; nullable ones may be missing. Vectors of any float type are rounded to the
                store's. Store metadata in their schema, if any, must name the same model.

        Returns:
            The new version.

        Raises:
            StoreError: The rows are not valid (`zebra.store.schema.validate_rows`), an id is in the store, the disk is
                full, or another process is writing. Nothing was added then.
        """
        table = validate_rows(rows, self.schema, self.metadata, str(self.path))
        if not len(table):
            return self.version
        self._acquire_write_lock()
        if self._id_hashes is None:
            self._id_hashes = IdHashSet(batch["id"] for batch in self._table.scan(["id"]))
        ids = table["id"].to_pylist()
        existing = list(self._find_positions(self._id_hashes.possible_members(ids)))
        if existing:
            raise StoreError(
                f"{len(existing)} of {len(ids)} ids already exist in {self.path}, for example {existing[0]!r}. "
                "Nothing was added. Remove these rows, or delete the old ones first"
            )
        with self._commit(f"appending {len(ids):,} rows", table.nbytes, append_only=True):
            self._table.append(table)
        self._id_hashes.add(ids)
        return self.version

    def replace(self, positions: Sequence[int], rows: pa.RecordBatch | pa.Table) -> int:
        """Delete the rows at positions and append rows in order, as one commit.

        Its cost does not depend on the number of rows in the store, because the ids in the store are not read.

        Args:
            positions: Positions in store order; none to append only.
            rows: As for `append`. The caller knows that their ids are not those of other rows.

        Returns:
            The new version.

        Raises:
            StoreError: As for `append`. Nothing was added or deleted then.
        """
        table = validate_rows(rows, self.schema, self.metadata, str(self.path))
        self._acquire_write_lock()
        with self._commit(f"appending {len(table):,} rows", table.nbytes, append_only=not positions):
            self._table.delete_positions(positions)
            self._table.append(table)
        self._id_hashes = None
        return self.version

    def append_file(self, path: Path, replaced_positions: Sequence[int] = ()) -> int:
        """Delete the rows at positions and append those of an Arrow file, as one commit.

        The file is read batch by batch, so memory does not grow with it.

        Args:
            path: An Arrow IPC file with rows as for `append`.
            replaced_positions: Positions of the rows to delete; the file may contain their ids again.

        Returns:
            The new version.

        Raises:
            StoreError: As for `append`. Nothing was added or deleted then.
        """
        self._acquire_write_lock()
        to_replace = set(self.take_positions(replaced_positions, ["id"])["id"].to_pylist())
        with pa.memory_map(str(path)) as source:
            file = pa.ipc.open_file(source)
            batch_indices = range(file.num_record_batches)
            id_hashes = IdHashSet(batch["id"] for batch in self._table.scan(["id"]))
            for ids in (file.get_batch(index)["id"].to_pylist() for index in batch_indices):
                existing = [id for id in id_hashes.possible_members(ids) if id not in to_replace]
                if existing:
                    raise StoreError(
                        f"the id {existing[0]!r} of {path} already exists in {self.path}, or is duplicated in the "
                        "file. Nothing was added"
                    )
                id_hashes.add(ids)
                to_replace.difference_update(ids)
            rows = (
                batch
                for index in batch_indices
                for batch in validate_rows(
                    file.get_batch(index), self.schema, self.metadata, str(self.path)
                ).to_batches()
            )
            with self._commit(f"appending {path.name}", path.stat().st_size):
                self._table.delete_positions(replaced_positions)
                self._table.append(pa.RecordBatchReader.from_batches(self.schema, rows))
        self._id_hashes = None
        return self.version

    def delete(self, ids: Sequence[str]) -> int:
        """Delete rows as one commit; unknown ids are ignored.

        Returns:
            Number of deleted rows.
        """
        self._acquire_write_lock()
        positions = list(self._find_positions(ids).values())
        self.delete_positions(positions)
        return len(positions)

    def delete_positions(self, positions: Sequence[int]) -> None:
        """Delete the rows at positions in store order, as one commit; its cost does not depend on the other rows."""
        self._acquire_write_lock()
        if positions:
            with self._commit(f"deleting {len(positions):,} rows"):
                self._table.delete_positions(positions)

    def update(self, ids: Sequence[str], values: Mapping[str, object]) -> int:
        """Set columns of some rows to one value each, as one commit; these rows move to the end.

        Returns:
            Number of updated rows.

        Raises:
            StoreError: A column is unknown, or is `id`, `digest` or `vector`; or a value has the wrong type.
        """
        self._require_columns(list(values))
        for name in IMMUTABLE_COLUMNS:
            if name in values:
                raise StoreError(
                    f"cannot update {name!r} in {self.path}: the column is immutable. Delete the row and append a new "
                    "one"
                )
        self._acquire_write_lock()
        existing = list(self._find_positions(ids))
        if existing and values:
            with self._commit(f"updating {len(existing):,} rows"):
                self._table.update(in_clause("id", existing), values)
        return len(existing)

    def add_columns(self, columns: pa.Schema) -> None:
        """Add nullable columns without values, as one commit.

        Raises:
            StoreError: A name is in use or not allowed, the disk is full, or another process is writing.
        """
        build_schema(self.metadata, pa.schema([*self.extra_columns, *columns]))
        self._acquire_write_lock()
        with self._commit("adding columns"):
            self._table.add_columns(pa.schema([field.with_nullable(True) for field in columns]))

    def drop_columns(self, names: Sequence[str]) -> None:
        """Remove extra columns with their values, as one commit.

        Raises:
            StoreError: A column is unknown, or every store has it.
        """
        self._require_columns(names)
        for name in names:
            if name not in self.extra_columns.names:
                raise StoreError(f"cannot drop {name!r} from {self.path}: every store has this column")
        self._acquire_write_lock()
        with self._commit("dropping columns"):
            self._table.drop_columns(names)

    def set_values(self, rows: pa.Table) -> None:
        """Set extra columns of the rows of the same id, as one commit; these rows move to the end.

        Args:
            rows: The column `id`, each once, and the columns to set, in the types of the store.

        Raises:
            StoreError: A column is unknown, or is one of every store.
        """
        self._require_columns(rows.column_names)
        for name in set(rows.column_names) - {"id"}:
            if name not in self.extra_columns.names:
                raise StoreError(f"cannot set {name!r} in {self.path}: every store has this column")
        validate_ids(rows["id"], str(self.path))
        self._acquire_write_lock()
        with self._commit(f"setting columns of {len(rows):,} rows", rows.nbytes):
            self._table.merge(rows)

    def build_index(self, index_type: IndexType, num_partitions: int) -> None:
        """Build or replace the index for `search_index`, as one commit; rows appended later are scanned.

        Args:
            index_type: How vectors are compressed.
            num_partitions: Number of groups of similar vectors.

        Raises:
            StoreError: There are fewer rows than partitions, the disk is full, or another process is writing.
        """
        self._acquire_write_lock()
        with self._commit("building the index", 2 * len(self) * self.metadata.embed_dim, append_only=True):
            self._table.build_index(index_type, num_partitions)

    def update_index(self) -> None:
        """Add the rows to the index that are not in it yet, and merge small files, as one commit.

        Raises:
            StoreError: The index is damaged, the disk is full, or another process is writing.
        """
        self._acquire_write_lock()
        with self._commit("updating the index", append_only=True):
            self._table.compact(NO_VERSION_CLEANUP)

    def restore(self, version: int) -> None:
        """Return to an older version, as a new commit.

        Raises:
            StoreError: The version does not exist, or was removed by `compact`.
        """
        self._acquire_write_lock()
        versions = [existing.version for existing in self.list_versions()]
        if version not in versions:
            raise StoreError(f"{self.path} has no version {version}; it has {', '.join(map(str, versions))}")
        with self._commit(f"restoring version {version}"):
            self._table.restore(version)
        self._id_hashes = None

    def compact(self, cleanup_older_than: timedelta = DEFAULT_VERSION_RETENTION) -> None:
        """Merge small files and remove old versions, if there are at least MIN_SMALL_FILES small files.

        Rows keep their order. Merged files stay on disk as long as an older version needs them.

        Args:
            cleanup_older_than: Age from which versions are removed. Younger ones stay for open readers and `restore`,
                apart from the intermediate ones of this writer (OWN_VERSION_RETENTION).
        """
        self._acquire_write_lock()
        num_small_files = self._table.num_small_files()
        if num_small_files < MIN_SMALL_FILES:
            return
        merged_version = 0
        while merged_version != self.version:  # until there is nothing left to merge
            merged_version = self.version
            with self._commit(f"merging {num_small_files:,} files", append_only=True):  # changes no row
                self._table.compact(NO_VERSION_CLEANUP)
        # a commit of its own: the merged files are durable before the old ones go
        with self._commit("removing old versions", append_only=True):
            own_versions = range(self._first_own_version + 1, self.version)
            self._dir.remove_versions(own_versions, min(cleanup_older_than, OWN_VERSION_RETENTION))
            self._table.compact(cleanup_older_than, delete_unverified=True)  # the lock excludes other writers

    def _acquire_write_lock(self) -> None:
        """Take the writer lock and go to the latest version, because another process may have written."""
        if self._lock.is_held:
            return
        try:
            self._lock.acquire()
            if self._dir.needs_recovery() or self._dir.latest_version() != self.version:
                self._table = recover_table(self._dir)
                self._id_hashes = None
            self._first_own_version = self.version
        except OSError as error:
            self._lock.release()
            raise _write_error("writing", self.path, error) from error
        except BaseException:
            self._lock.release()
            raise

    @contextmanager
    def _commit(self, operation: str, num_bytes: int = 0, *, append_only: bool = False) -> Iterator[None]:
        """Make the changes of a block atomic and durable.

        Args:
            append_only: The operation keeps existing rows where they are, and only appends.
        """
        recorded = self._dir.read_commit() or Commit(0, 0)
        current = Commit(self.version, len(self), last_rewrite_version=recorded.last_rewrite_version)
        try:
            old_files = self._dir.begin_commit(current, operation)
            yield
            rewrite_version = recorded.last_rewrite_version if append_only else self.version
            self._dir.finish_commit(Commit(self.version, len(self), last_rewrite_version=rewrite_version), old_files)
        except (OSError, LanceError) as error:
            with suppress(OSError, LanceError):  # if the rollback fails, the next writer recovers
                self._dir.roll_back(current)
                self._table = LanceTable.open(self.path)
            self._lock.release()
            raise _write_error(operation, self.path, error, num_bytes) from error
        except BaseException:  # interrupted: LanceDB may still be writing, so the next writer rolls back
            self._lock.release()
            raise


def _write_error(operation: str, path: Path, error: OSError | LanceError, num_bytes: int = 0) -> StoreError:
    reason = error.message if isinstance(error, LanceError) else error.strerror
    message = f"{path}: {operation} failed: {os.strerror(error.errno) if error.errno else reason}"
    if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StoreError(f"{message}. Earlier commits are intact")
    with suppress(OSError):
        message += f" ({num_bytes:,} bytes to write, {shutil.disk_usage(path).free:,} free)"
    return StoreError(f"{message}. Earlier commits are intact. Free disk space and run again")
