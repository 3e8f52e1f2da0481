"""Atomic writes: write to a temporary path beside the target, then rename."""

import errno
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

PARTIAL_SUFFIX = ".partial"
"""End of the names of temporary files; a process that is killed leaves them behind."""


@contextmanager
def atomic_write(path: Path, *, fsync: bool = False) -> Iterator[Path]:
    """Yield a temporary path in the target's directory; rename it to `path` when the block succeeds.

    The caller creates a file or a directory at the temporary path. If the block raises, the temporary path is removed
    and `path` is unchanged. Parents are not created and no OSError is swallowed.

    Args:
        path: The target. An existing file is replaced; an existing directory only if it is empty.
        fsync: Flush the contents before the rename and the directory entry after it, so that the write survives a
            power failure.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}{PARTIAL_SUFFIX}")
    try:
        yield partial
        if fsync:
            for below in sorted(partial.rglob("*"), reverse=True) if partial.is_dir() else ():
                fsync_path(below)
            fsync_path(partial)
        partial.replace(path)
    except BaseException:
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            partial.unlink(missing_ok=True)
        raise
    if fsync:
        fsync_path(path.parent)


def append_lines(path: Path, lines: Iterable[str]) -> None:
    """Append lines to a text file that may not exist, by a copy: after a kill the file has all of them or none."""
    with atomic_write(path) as partial:
        if path.exists():
            shutil.copyfile(path, partial)
        with partial.open("a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)


def fsync_path(path: Path) -> None:
    """Flush a file's contents, or a directory's entries, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_disk_full(error: OSError) -> bool:
    """Return whether a write failed because a disk, a quota or a file size limit is exhausted."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
