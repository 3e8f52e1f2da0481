"""A disk whose n-th change fails, or is the last thing before the process dies.

Every operation by which this process changes files is counted: making, renaming and removing files and folders,
opening them to write, each write, each flush to the disk.
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
    """The process is dead; nobody catches this."""


class Disk:
    """Counts changes and breaks the n-th.

    Args:
        nth: Counted from 1; 0 breaks none.
        kill: What happens there: None makes the operation fail with an I/O error. Otherwise it is called, and if it
            returns, nothing that follows has an effect.
        flush: Also write through to the real disk, which takes its time and shows in no test.
    """

    def __init__(self, nth=0, kill=None, flush=False):
        self.nth, self.kill, self.flush = nth, kill, flush
        self.changes: list[tuple[str, str]] = []

    @property
    def broke(self) -> bool:
        return 0 < self.nth <= len(self.changes)

    @contextmanager
    def mounted(self) -> Iterator["Disk"]:
        """Let this process work on the disk inside the block."""
        changes = mock.patch.multiple(os, **{name: self._counting(name) for name in CHANGES})
        with changes, mock.patch.object(io, "open", self._open(io.open)):
            yield self

    def change(self, what, where):
        """Count a change; return if it may happen."""
        if self.kill is not None and self.broke:
            raise Killed
        self.changes.append((what, _name(where)))
        if len(self.changes) == self.nth:
            if self.kill is not None:
                self.kill()
                raise Killed
            raise OSError(errno.EIO, "Input/output error")

    def _counting(self, name):
        real = getattr(os, name)

        def changed(where, *rest, **options):
            self.change(name, where)
            return None if name == "fsync" and not self.flush else real(where, *rest, **options)

        return changed

    def _open(self, real):
        def opened(file, mode="r", *rest, **options):
            if not set(mode) & set("wxa+"):
                return real(file, mode, *rest, **options)
            self.change("open", file)
            return _File(real(file, mode, *rest, **options), self)

        return opened


class _File:
    """A file whose writes are counted; the one that breaks leaves half of what it should have written."""

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


def _name(where):
    return (Path(f"/proc/self/fd/{where}").readlink() if isinstance(where, int) else Path(where)).name
