"""Single-writer lock: a file lock that the operating system releases on exit."""

import fcntl
import os
from pathlib import Path

from zebra.errors import StoreError


class WriterLock:
    """A lock held by the one `Store` object, in one process, that writes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None

    @property
    def is_held(self) -> bool:
        """Whether this object holds the lock."""
        return self._fd is not None

    def acquire(self) -> None:
        """Take the lock without waiting.

        Raises:
            StoreError: Another process, or another `Store` of this process, holds it.
            OSError: The directory is not writable.
        """
        if self._fd is not None:
            return
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(fd, 32).decode(errors="replace").strip() or "unknown"
            os.close(fd)
            raise StoreError(
                f"{self.path.parent} is locked by the writer process {holder}. Wait until it ends, or stop it"
            ) from error
        self._fd = fd
        os.register_at_fork(after_in_child=self.release)  # a worker that outlives us must not keep it
        os.pwrite(fd, f"{os.getpid():<32}".encode(), 0)

    def release(self) -> None:
        """Release the lock; in a forked child, close only the child's copy of the file descriptor."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
