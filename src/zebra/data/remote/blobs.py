"""Byte-range access to a file or object."""

import os
from collections.abc import Callable, Sequence
from io import BufferedReader
from pathlib import Path
from typing import Any, Protocol

from zebra.data.regular_files import open_regular_file, require_regular_file
from zebra.errors import DataError

ByteRange = tuple[int, int]
"""Offset and size, in bytes."""


class Blob(Protocol):
    """The immutable bytes of a file or object; a read returns all requested bytes or raises DataError.

    A blob can be pickled. File descriptors and connections are opened in the process that reads.
    """

    @property
    def name(self) -> str:
        """The path or URL as given."""

    @property
    def identity(self) -> tuple[object, ...]:
        """Path or URL, size, and modification time or ETag; unequal if the bytes have changed."""

    @property
    def size(self) -> int:
        """The size in bytes."""

    def open(self) -> BufferedReader:
        """Open the bytes as a file for sequential reading."""

    def start_read(self, byte_ranges: Sequence[ByteRange]) -> Callable[[], list[bytes]]:
        """Start to read; the returned function waits for the bytes of every range.

        Raises:
            DataError: The bytes cannot be read, or `identity` has changed.
        """

    def read_sibling(self, name: str) -> bytes | None:
        """Return a small file of the same folder, or None if it does not exist."""

    def close(self) -> None:
        """Free open resources until the next use."""


class LocalBlob:
    """A local file, identified by its path, size and modification time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path)
        try:
            require_regular_file(path)
            stat = path.stat()
        except OSError as error:
            raise DataError(f"cannot open {path}: {error.strerror}. Give a readable file") from error
        self.size = stat.st_size
        self.identity = (str(path.resolve()), *_size_and_mtime(stat))
        self._descriptor: int | None = None

    def open(self) -> BufferedReader:
        """Open the file for reading."""
        return open_regular_file(self.path)

    def start_read(self, byte_ranges: Sequence[ByteRange]) -> Callable[[], list[bytes]]:
        """Read immediately: a local disk gains nothing from deferred reads."""
        if self._descriptor is None:
            self._descriptor = self._open_descriptor()
        # pread, because forked processes share the file position.
        data = [os.pread(self._descriptor, size, offset) for offset, size in byte_ranges]
        is_complete = [len(part) for part in data] == [size for _, size in byte_ranges]
        if not is_complete or _size_and_mtime(os.fstat(self._descriptor)) != self.identity[1:]:
            raise DataError(f"{self.path} has changed while it was in use. Start again to index it anew")
        return lambda: data

    def read_sibling(self, name: str) -> bytes | None:
        """Return a file of the same folder, or None if it does not exist."""
        path = self.path.with_name(name)
        try:
            return path.read_bytes() if path.is_file() else None
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror}") from error

    def close(self) -> None:
        """Close the file until the next read."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_descriptor": None}

    def __del__(self) -> None:
        if self.__dict__.get("_descriptor") is not None:
            self.close()

    def _open_descriptor(self) -> int:
        try:
            return os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise DataError(f"cannot open {self.path} again: {error.strerror}") from error


def _size_and_mtime(stat: os.stat_result) -> tuple[int, int]:
    return stat.st_size, stat.st_mtime_ns
