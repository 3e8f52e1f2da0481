"""A lock on a folder for the one process that writes to it."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zebra.errors import ConfigError


@contextmanager
def lock_folder(folder: Path, lock_path: Path) -> Iterator[None]:
    """Create a folder if it is missing and lock it; the lock ends with the process, even after a crash.

    Args:
        folder: Named in the error message.
        lock_path: The lock file, in or below the folder; it contains the process number and stays.

    Raises:
        ConfigError: Another process holds the lock.
    """
    lock_path.parent.mkdir(parents=True, exist_ok=True)
    with lock_path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            raise ConfigError(
                f"{folder} is in use by process {file.read() or '?'}. Wait for it, or name another --out."
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
