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

from zebra.errors import StoreError, nearest
from zebra.store.id_hash_set import KnownIds
from zebra.store.lance_table import LanceError, Table, among
from zebra.store.metadata import StoreFacts, read_facts, require_same_model
from zebra.store.recovery import mend, open_whole
from zebra.store.schema import conform, row_schema
from zebra.store.store_dir import Commit, Folder, sync
from zebra.store.writer_lock import WriterLock

FIXED = ("id", "digest", "vector")
"""Columns that make a row what it is; a changed picture is another row."""
SMALL_FILES = 32
"""Fewer are left alone: merging one more may write a million rows anew."""
AT_ONCE = 4096
"""Ids that are named in one condition."""
KEEP = timedelta(days=7)
FOREVER = timedelta(days=36500)


@dataclass(frozen=True, slots=True)
class Version:
    """A state of a store that can be gone back to."""

    number: int
    rows: int
    time: datetime


class Store:
    """A table of rows with the columns of `zebra.store.schema`, kept in a folder.

    What `append`, `delete`, `update`, `restore` and `compact` did is on disk when they return, and each happens as a
    whole or not at all. The first of them makes this the only writer, until `close`.
    A store that is only read stays at the version it was opened at.
    """

    def __init__(self, folder: Folder, table: Table) -> None:
        """Wrap an opened table; use `create` or `open`."""
        self._folder = folder
        self._table = table
        self._lock = WriterLock(folder.lock)
        self._known: KnownIds | None = None
        self.facts = read_facts(table.schema.metadata, str(folder.path))
        """About the model that filled it."""

    @classmethod
    def create(cls, path: Path, facts: StoreFacts, columns: pa.Schema | None = None) -> "Store":
        """Make an empty store.

        Args:
            path: A folder, made if need be; other files in it are left alone.
            columns: Further columns for whatever is known of a picture; all may be null.

        Raises:
            StoreError: There is one already, or it cannot be made there.
        """
        folder, schema = Folder(path), row_schema(facts, columns)
        lock = WriterLock(folder.lock)
        try:
            path.mkdir(parents=True, exist_ok=True)
            lock.acquire()
            if folder.unfinished():
                shutil.rmtree(folder.table, ignore_errors=True)
            if folder.table.exists():
                raise StoreError(f"{path} holds a store already; open it, or name another folder")
            before = folder.announce(Commit(0, 0), "making the store")
            table = Table.create(path, schema)
            folder.conclude(Commit(table.version, 0, rewritten=table.version), before)
            sync(path.parent)
        except (OSError, LanceError) as error:
            raise _failure("making the store", path, error) from error
        finally:
            lock.release()
        return cls(folder, table)

    @classmethod
    def open(cls, path: Path) -> "Store":
        """Open a store at its newest version; what a crash left behind is put right, with a warning.

        Raises:
            StoreError: There is none, it is damaged beyond repair, or a newer zebra or LanceDB wrote it.
        """
        folder = Folder(path)
        if not folder.table.is_dir() or folder.unfinished():
            raise StoreError(
                f"there is no store in {path}; make one with: zebra embed MODEL DATA --out {path}"
            )
        return cls(folder, open_whole(folder))

    @property
    def path(self) -> Path:
        """The folder."""
        return self._folder.path

    @property
    def version(self) -> int:
        """The version that is read; every commit makes a new one."""
        return self._table.version

    @property
    def committed(self) -> Commit | None:
        """What was committed last, by whoever writes, as the store's folder says now; it costs reading a small file."""
        return self._folder.committed()

    @property
    def schema(self) -> pa.Schema:
        """Of the rows; its metadata holds the facts."""
        return self._table.schema

    def __len__(self) -> int:
        return self._table.count()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Let others write."""
        self.close()

    def close(self) -> None:
        """Let others write; reading goes on."""
        self._lock.release()

    def require(self, fingerprint: str) -> None:
        """Refuse to go on with another model than the one whose vectors are here.

        Raises:
            StoreError: The fingerprint is another; the message names both.
        """
        require_same_model(self.facts, fingerprint, str(self.path))

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
        table = conform(rows, self.schema, self.facts, str(self.path))
        if not len(table):
            return self.version
        self._become_writer()
        if self._known is None:
            self._known = KnownIds(batch["id"] for batch in self._table.scan(["id"]))
        ids = table["id"].to_pylist()
        there = self._ids_among(self._known.suspects(ids))
        if there:
            raise StoreError(
                f"{len(there)} of {len(ids)} ids are in {self.path} already, {there[0]!r} for one; nothing was added. "
                "Leave these rows out, or delete the old ones first"
            )
        with self._commit(f"adding {len(ids):,} rows", table.nbytes, appends=True):
            self._table.append(table)
        self._known.add(ids)
        return self.version

    def append_file(self, path: Path, instead_of: Sequence[str] = ()) -> int:
        """Remove some rows and add those of an Arrow file behind all others, as one commit.

        However many there are, they pass through a batch at a time.

        Args:
            path: An Arrow IPC file; its rows are as `append` takes them.
            instead_of: Ids of the rows that go; they may come again in the file.

        Returns:
            The new version.

        Raises:
            StoreError: As `append`; nothing was added or removed then.
        """
        self._become_writer()
        with pa.memory_map(str(path)) as source:
            file = pa.ipc.open_file(source)
            numbers = range(file.num_record_batches)
            known, old = KnownIds(batch["id"] for batch in self._table.scan(["id"])), set(instead_of)
            for ids in (file.get_batch(number)["id"].to_pylist() for number in numbers):
                there = [name for name in known.suspects(ids) if name not in old]
                if there:
                    raise StoreError(
                        f"the id {there[0]!r} of {path} is in {self.path} already, or there twice; nothing was added"
                    )
                known.add(ids)
                old.difference_update(ids)
            rows = (
                batch
                for number in numbers
                for batch in conform(
                    file.get_batch(number), self.schema, self.facts, str(self.path)
                ).to_batches()
            )
            with self._commit(f"adding {path.name}", path.stat().st_size):
                for first in range(0, len(instead_of), AT_ONCE):
                    self._table.delete(among("id", instead_of[first : first + AT_ONCE]))
                self._table.append(pa.RecordBatchReader.from_batches(self.schema, rows))
        self._known = None
        return self.version

    def delete(self, ids: Sequence[str]) -> int:
        """Remove rows as one commit; ids that are not there are passed over.

        Returns:
            How many rows there were.
        """
        self._become_writer()
        there = self._ids_among(ids)
        if there:
            with self._commit(f"deleting {len(there):,} rows"):
                self._table.delete(among("id", there))
        return len(there)

    def update(self, ids: Sequence[str], values: Mapping[str, object]) -> int:
        """Set columns of some rows to one value each, as one commit; these rows move behind all others.

        Returns:
            How many rows there were.

        Raises:
            StoreError: A column is unknown, or is `id`, `digest` or `vector`; or a value does not fit.
        """
        self._require_columns(list(values))
        for name in FIXED:
            if name in values:
                raise StoreError(
                    f"{name!r} of a row in {self.path} is fixed; delete the row and append another"
                )
        self._become_writer()
        there = self._ids_among(ids)
        if there and values:
            with self._commit(f"updating {len(there):,} rows"):
                self._table.update(among("id", there), values)
        return len(there)

    def scan(self, columns: Sequence[str], first: int = 0) -> Iterator[pa.RecordBatch]:
        """Yield some columns of all rows from `first` on, in the order of the store, a few thousand at a time.

        Raises:
            StoreError: A column is unknown.
        """
        self._require_columns(columns)
        return self._table.scan(columns, first=first)

    def take(self, ids: Sequence[str], columns: Sequence[str] | None = None) -> pa.Table:
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
        return self.at([places[name] for name in ids], columns)

    def at(self, positions: Sequence[int], columns: Sequence[str] | None = None) -> pa.Table:
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
        return self._table.at(positions, names)

    def vectors(self, first: int = 0) -> tuple[pa.ChunkedArray, NDArray[np.float16] | NDArray[np.float32]]:
        """Read the vectors of all rows from `first` on into memory.

        Returns:
            N ids as Arrow strings, and their vectors [N, E] in the store's type; in the order of the store.
        """
        vectors_NE = np.empty((len(self) - first, self.facts.embed_dim), self.facts.dtype)
        ids, place = [], 0
        for batch in self._table.scan(["id", "vector"], first=first):
            ids.append(
                batch["id"].take(pa.array(np.arange(batch.num_rows)))
            )  # a copy: the batch holds vectors too
            flat = batch["vector"].flatten().to_numpy()
            vectors_NE[place : place + batch.num_rows] = flat.reshape(batch.num_rows, -1)
            place += batch.num_rows
        return pa.chunked_array(ids, pa.string()), vectors_NE

    def build_index(self, partitions: int) -> None:
        """Index the vectors for `nearest`, as one commit; rows that are added later are found without it.

        Args:
            partitions: Into which the rows are divided by their vectors.

        Raises:
            StoreError: There are fewer rows than partitions, the disk is full, or another process is writing.
        """
        self._become_writer()
        with self._commit("making the index", 2 * len(self) * self.facts.embed_dim, appends=True):
            self._table.build_index(partitions)

    def num_indexed(self) -> int | None:
        """Return how many rows are in the index; None without one."""
        return self._table.num_indexed()

    def nearest(
        self,
        vector_E: NDArray[np.float32],
        count: int,
        columns: Sequence[str],
        where: str | None,
        probes: int,
        refine: int,
    ) -> pa.Table:
        """Return rows that are nearest to a vector by cosine, as far as the index finds them; all others with it.

        Args:
            where: A condition of the engine's language: none from outside (`zebra.search.conditions` writes it).
            probes: Partitions to look into.
            refine: Times as many rows as asked for are compared by their own vectors.
        """
        return self._table.nearest(vector_E, count, columns, where, probes, refine)

    def versions(self) -> list[Version]:
        """Return the versions that can be gone back to, oldest first."""
        return [Version(*version) for version in self._table.versions()]

    def restore(self, version: int) -> None:
        """Make an older version the newest, as a commit of its own.

        Raises:
            StoreError: There is no such version, or no more.
        """
        self._become_writer()
        numbers = [known.number for known in self.versions()]
        if version not in numbers:
            raise StoreError(f"{self.path} has no version {version}; it has {', '.join(map(str, numbers))}")
        with self._commit(f"going back to version {version}"):
            self._table.restore(version)
        self._known = None

    def compact(self, keep: timedelta = KEEP) -> None:
        """Merge the files of many small commits into few, and remove old versions; nothing while there are few.

        Rows keep their order. What was merged takes its place twice, as long as an older version needs it.

        Args:
            keep: Younger versions stay, to be read by who has them open and to be restored.
        """
        self._become_writer()
        small = self._table.num_small_files()
        if small < SMALL_FILES:
            return
        merged = 0
        while merged != self.version:  # until there is nothing left to merge
            merged = self.version
            with self._commit(f"merging {small:,} files", appends=True):  # or rather, changes no row
                self._table.compact(FOREVER)
        with self._commit("removing old versions", appends=True):  # not before what replaces them is flushed
            self._table.compact(keep)

    def export_parquet(self, path: Path) -> None:
        """Write all rows into one Parquet file, for tools that do not read Lance."""
        schema = self.schema
        partial = path.with_name(f".{path.name}.partial")
        try:
            with pq.ParquetWriter(partial, schema) as writer:
                for batch in self._table.scan(schema.names):
                    writer.write_batch(pa.RecordBatch.from_arrays(batch.columns, schema=schema))
            partial.replace(path)
        except OSError as error:
            raise _failure(f"writing {path}", path.parent, error) from error
        finally:
            partial.unlink(missing_ok=True)

    def _require_columns(self, names: Sequence[str]) -> None:
        known = self.schema.names
        for name in names:
            if name not in known:
                raise StoreError(f"{self.path} has no column {name!r}.{nearest(name, known)}")

    def _ids_among(self, ids: Sequence[str]) -> list[str]:
        """Return those of some ids that are in the store."""
        if not ids:
            return []
        return [
            name for batch in self._table.scan(["id"], among("id", ids)) for name in batch["id"].to_pylist()
        ]

    def _become_writer(self) -> None:
        """Take the lock, and go to the newest version: another may have written in the meantime."""
        if self._lock.held:
            return
        try:
            self._lock.acquire()
            if self._folder.unsettled() or self._folder.newest() != self.version:
                self._table = mend(self._folder)
                self._known = None
        except OSError as error:
            self._lock.release()
            raise _failure("writing", self.path, error) from error
        except BaseException:
            self._lock.release()
            raise

    @contextmanager
    def _commit(self, change: str, num_bytes: int = 0, *, appends: bool = False) -> Iterator[None]:
        """Make what is done inside durable, as a whole or not at all.

        Args:
            appends: It leaves all rows where they are, and adds none but behind them.
        """
        known = self._folder.committed() or Commit(0, 0)
        state = Commit(self.version, len(self), rewritten=known.rewritten)
        try:
            before = self._folder.announce(state, change)
            yield
            rewritten = known.rewritten if appends else self.version
            self._folder.conclude(Commit(self.version, len(self), rewritten=rewritten), before)
        except (OSError, LanceError) as error:
            with suppress(OSError, LanceError):  # if not even that can be done, who writes next does it
                self._folder.undo(state)
                self._table = Table.open(self.path)
            self._lock.release()
            raise _failure(change, self.path, error, num_bytes) from error
        except (
            BaseException
        ):  # interrupted, and LanceDB may still be at it: who writes next undoes what came of it
            self._lock.release()
            raise


def _failure(change: str, path: Path, error: OSError | LanceError, num_bytes: int = 0) -> StoreError:
    reason = error.said if isinstance(error, LanceError) else error.strerror
    message = f"{path}: {change} failed: {os.strerror(error.errno) if error.errno else reason}"
    if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StoreError(f"{message}. What was committed before is untouched")
    with suppress(OSError):
        message += f" ({num_bytes:,} bytes to write, {shutil.disk_usage(path).free:,} free)"
    return StoreError(f"{message}. What was committed before is untouched: make room, and run again")
