"""Recovery on open: roll back incomplete commits and step over corrupt versions."""

import errno

from zebra.errors import StoreError
from zebra.store.lance_table import LanceError, LanceTable
from zebra.store.metadata import read_store_metadata
from zebra.store.store_dir import Commit, CorruptVersionError, StoreDir
from zebra.store.writer_lock import WriterLock

CORRUPTION_ERRNOS = (None, errno.ENOENT, errno.EIO)
"""Errors that LanceDB reports for a truncated or missing file or a bad sector; any other error may be temporary."""


def open_or_recover(store_dir: StoreDir) -> LanceTable:
    """Open a table for reading; recover it first, unless a writer is active.

    Raises:
        StoreError: The store is damaged beyond repair, is not a zebra store, needs a newer version, or needs recovery
            in a directory that is not writable.
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
            f"{store_dir.path} has an incomplete commit that cannot be rolled back: {error.strerror}. Open the store "
            "once where it is writable"
        ) from error
    except StoreError:
        if table is None or lock.is_held:
            raise
        return table  # a writer is committing at this moment
    finally:
        lock.release()


def recover_table(store_dir: StoreDir) -> LanceTable:
    """Recover a store and open its table. The caller must hold the writer lock."""

    def verify_latest() -> Commit:
        table = _open_and_verify(store_dir)
        return Commit(table.version, table.count_rows())

    store_dir.recover(verify_latest)
    return LanceTable.open(store_dir.path)


def _open_and_verify(store_dir: StoreDir) -> LanceTable:
    """Open the latest version and read one column of all its files.

    Raises:
        CorruptVersionError: The version is damaged.
        StoreError: The version cannot be opened for another reason.
    """
    latest = store_dir.latest_version()
    try:
        table = LanceTable.open(store_dir.path)
        if table.version < latest:  # LanceDB takes a manifest of zeros for an empty table
            raise CorruptVersionError(f"the manifest of version {latest} is empty")
        read_store_metadata(table.schema.metadata, str(store_dir.path))
        num_rows = sum(batch.num_rows for batch in table.scan(["width"]))
        if num_rows != table.count_rows():
            raise CorruptVersionError(f"expected {table.count_rows():,} rows, found {num_rows:,}")
    except LanceError as error:
        if error.needs_upgrade:
            raise StoreError(
                f"{store_dir.path} cannot be opened: {error.message}. Run: pip install --upgrade lancedb"
            ) from error
        if error.errno not in CORRUPTION_ERRNOS:
            raise
        raise CorruptVersionError(error.message) from error
    return table
