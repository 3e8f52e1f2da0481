"""Fault injection: a disk whose n-th change fails or kills the process.

It counts every operation by which this process changes files: creating, renaming and removing files and directories,
opening files to write, writes and flushes.
"""

import errno
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

CHANGES = ("mkdir", "rename", "replace", "unlink", "rmdir", "chmod", "fsync")


class Killed(BaseException):
    """Stands for the death of the process; no code catches it."""


class Disk:
    """Counts changes and fails at the n-th.

    Args:
        nth: The change to fail at, from 1; 0 never fails.
        kill: None makes the n-th change raise an I/O error. A function is called there instead; if it returns, later
            changes have no effect.
        flush: Whether to flush to the real disk, which takes time and is visible in no test.
    """

    def __init__(self, nth=0, kill=None, flush=False):
        self.nth, self.kill, self.flush = nth, kill, flush
        self.changes: list[tuple[str, str]] = []

    @property
    def has_failed(self) -> bool:
        return 0 < self.nth <= len(self.changes)

    @contextmanager
    def mounted(self) -> Iterator["Disk"]:
        """Use this disk for all file operations of this process inside the block."""
        changes = mock.patch.multiple(os, **{name: self._counting(name) for name in CHANGES})
        with changes, mock.patch.object(io, "open", self._open(io.open)):
            yield self

    def change(self, operation, path):
        """Count a change; raise if it must not happen."""
        if self.kill is not None and self.has_failed:
            raise Killed
        self.changes.append((operation, _name(path)))
        if len(self.changes) == self.nth:
            if self.kill is not None:
                self.kill()
                raise Killed
            raise OSError(errno.EIO, "Input/output error")

    def _counting(self, name):
        real = getattr(os, name)

        def counted(path, *args, **kwargs):
            self.change(name, path)
            return None if name == "fsync" and not self.flush else real(path, *args, **kwargs)

        return counted

    def _open(self, real):
        def counted_open(file, mode="r", *args, **kwargs):
            if not set(mode) & set("wxa+"):
                return real(file, mode, *args, **kwargs)
            self.change("open", file)
            return _File(real(file, mode, *args, **kwargs), self)

        return counted_open


class _File:
    """A file that counts writes; the failing write stores half of its data."""

    def __init__(self, file, disk):
        self.file, self.disk = file, disk

    def write(self, data):
        try:
            self.disk.change("write", self.file.name)
        except BaseException:
            self.file.write(data[: len(data) // 2])
            raise
        return self.file.write(data)

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self.file.close()

    def __getattr__(self, name):
        return getattr(self.file, name)


def _name(path):
    return (Path(f"/proc/self/fd/{path}").readlink() if isinstance(path, int) else Path(path)).name
