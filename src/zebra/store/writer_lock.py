"""One writer at a time: a lock file that the operating system frees when its holder ends, however it ends."""

import fcntl
import os
from pathlib import Path

from zebra.errors import StoreError


class WriterLock:
    """Held by the one process, and the one `Store` in it, that writes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None

    @property
    def is_held(self) -> bool:
        """Whether it is ours."""
        return self._fd is not None

    def acquire(self) -> None:
        """Take the lock, or find out who has it.

        Raises:
            StoreError: Another process, or another `Store` of this one, is writing.
            OSError: The folder cannot be written to.
        """
        if self._fd is not None:
            return
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(handle, 32).decode(errors="replace").strip() or "unknown"
            os.close(handle)
            raise StoreError(
                f"{self.path.parent} is being written to by process {holder}; wait until it is done, or end it"
            ) from error
        self._fd = handle
        os.register_at_fork(after_in_child=self.release)  # a worker that outlives us must not keep it
        os.pwrite(handle, f"{os.getpid():<32}".encode(), 0)

    def release(self) -> None:
        """Give the lock back; in a forked child, only let go of the copy."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
