"""A store's folder in, its table at the newest version that is whole out."""

import errno

from zebra.errors import StoreError
from zebra.store.lance_table import LanceError, Table
from zebra.store.metadata import read_facts
from zebra.store.store_dir import Commit, Folder, Unreadable
from zebra.store.writer_lock import WriterLock

DAMAGE = (None, errno.ENOENT, errno.EIO)
"""What LanceDB reports for a file that is cut short, gone or on a bad sector; anything else may pass."""


def open_whole(folder: Folder) -> Table:
    """Open a table for reading; what a crash left behind is put right first, unless a writer is at work.

    Raises:
        StoreError: It is damaged beyond repair, no table of zebra, of a newer version, or cannot be put right because
            the folder cannot be written to.
    """
    table = None
    try:
        table = _read(folder)
        if not folder.unsettled():
            return table
    except Unreadable:
        pass
    lock = WriterLock(folder.lock)
    try:
        lock.acquire()
        return mend(folder)
    except OSError as error:
        raise StoreError(
            f"{folder.path} was left in the middle of a change, and what came of it cannot be undone: "
            f"{error.strerror}. Open it once where it can be written to"
        ) from error
    except StoreError:
        if table is None or lock.held:
            raise
        return table  # that of a commit being made at this moment
    finally:
        lock.release()


def mend(folder: Folder) -> Table:
    """Put right what a crash left behind, and open the table. Only who holds the lock may do it."""

    def read() -> Commit:
        table = _read(folder)
        return Commit(table.version, table.count())

    folder.mend(read)
    return Table.open(folder.path)


def _read(folder: Folder) -> Table:
    """Open the newest version and read a little of every file it consists of.

    Raises:
        Unreadable: It is damaged.
        StoreError: It is not damaged, but not for us.
    """
    newest = folder.newest()
    try:
        table = Table.open(folder.path)
        if table.version < newest:  # a manifest of zeros passes for an empty table
            raise Unreadable(f"the manifest of version {newest} says nothing")
        read_facts(table.schema.metadata, str(folder.path))
        rows = sum(batch.num_rows for batch in table.scan(["width"]))
        if rows != table.count():
            raise Unreadable(f"it should have {table.count():,} rows and has {rows:,}")
    except LanceError as error:
        if error.newer:
            raise StoreError(f"{folder.path}: {error.said}; run: pip install --upgrade lancedb") from error
        if error.errno not in DAMAGE:
            raise
        raise Unreadable(error.said) from error
    return table
