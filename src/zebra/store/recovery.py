"""A store's folder in, its table at the newest version that is whole out."""

import errno

from zebra.errors import StoreError
from zebra.store.lance_table import LanceError, LanceTable
from zebra.store.metadata import read_store_metadata
from zebra.store.store_dir import Commit, CorruptVersionError, StoreDir
from zebra.store.writer_lock import WriterLock

CORRUPTION_ERRNOS = (None, errno.ENOENT, errno.EIO)
"""What LanceDB reports for a file that is cut short, gone or on a bad sector; anything else may pass."""


def open_or_recover(store_dir: StoreDir) -> LanceTable:
    """Open a table for reading; what a crash left behind is put right first, unless a writer is at work.

    Raises:
        StoreError: It is damaged beyond repair, no table of zebra, of a newer version, or cannot be put right because
            the folder cannot be written to.
    """
    table = None
    try:
        table = _open_and_verify(store_dir)
        if not store_dir.needs_recovery():
            return table
    except CorruptVersionError:
        pass
    lock = WriterLock(store_dir.lock_path)
    try:
        lock.acquire()
        return recover_table(store_dir)
    except OSError as error:
        raise StoreError(
            f"{store_dir.path} was left in the middle of a change, and what came of it cannot be undone: "
            f"{error.strerror}. Open it once where it can be written to"
        ) from error
    except StoreError:
        if table is None or lock.is_held:
            raise
        return table  # that of a commit being made at this moment
    finally:
        lock.release()


def recover_table(store_dir: StoreDir) -> LanceTable:
    """Put right what a crash left behind, and open the table. Only who holds the lock may do it."""

    def read() -> Commit:
        table = _open_and_verify(store_dir)
        return Commit(table.version, table.count_rows())

    store_dir.recover(read)
    return LanceTable.open(store_dir.path)


def _open_and_verify(store_dir: StoreDir) -> LanceTable:
    """Open the newest version and read a little of every file it consists of.

    Raises:
        Unreadable: It is damaged.
        StoreError: It is not damaged, but not for us.
    """
    newest = store_dir.latest_version()
    try:
        table = LanceTable.open(store_dir.path)
        if table.version < newest:  # a manifest of zeros passes for an empty table
            raise CorruptVersionError(f"the manifest of version {newest} says nothing")
        read_store_metadata(table.schema.metadata, str(store_dir.path))
        rows = sum(batch.num_rows for batch in table.scan(["width"]))
        if rows != table.count_rows():
            raise CorruptVersionError(f"it should have {table.count_rows():,} rows and has {rows:,}")
    except LanceError as error:
        if error.needs_upgrade:
            raise StoreError(
                f"{store_dir.path}: {error.message}; run: pip install --upgrade lancedb"
            ) from error
        if error.errno not in CORRUPTION_ERRNOS:
            raise
        raise CorruptVersionError(error.message) from error
    return table
