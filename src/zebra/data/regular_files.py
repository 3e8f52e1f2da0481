"""Open and read regular files only: no named pipes, devices or sockets."""

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

from zebra.errors import BadSample

MAX_SAMPLE_BYTES = 1 << 30
"""Maximum size of one image or caption file."""

_FILE_TYPES = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def open_regular_file(path: Path) -> BufferedReader:
    """Open a file for reading; raise OSError if it cannot be opened or is not a regular file."""
    return os.fdopen(_open_descriptor(path), "rb")


def read_regular_file(path: Path, max_bytes: int = MAX_SAMPLE_BYTES) -> bytes:
    """Return the bytes of a file; raise OSError if it cannot be read, is not regular or has more than `max_bytes`."""
    with os.fdopen(_open_descriptor(path), "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            raise OSError(errno.EFBIG, f"{size:,} bytes are more than the maximum of {max_bytes:,}", str(path))
        parts = []
        while size > 0 and (part := file.read(size)):  # a network file system may return fewer bytes
            parts.append(part)
            size -= len(part)
        return b"".join(parts)


def read_image_bytes(path: Path, where: str) -> bytes:
    """Return a file's bytes; raise BadSample if it cannot be read or is not a regular file."""
    try:
        return read_regular_file(path)
    except OSError as error:
        raise BadSample("unreadable file", where, f"{path}: {error.strerror}") from error


def require_regular_file(path: Path) -> None:
    """Raise OSError if the path does not exist, or is neither a regular file nor a link to one."""
    _require_regular(path.stat().st_mode, path)


def _open_descriptor(path: Path) -> int:
    """Open a regular file. A path that becomes a named pipe meanwhile is not waited for, because of O_NONBLOCK."""
    require_regular_file(path)
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))
    try:
        _require_regular(os.fstat(descriptor).st_mode, path)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _require_regular(mode: int, path: Path) -> None:
    if not stat.S_ISREG(mode):
        file_type = _FILE_TYPES.get(stat.S_IFMT(mode), "a special file")
        raise OSError(errno.EINVAL, f"{file_type}, not a regular file", str(path))
