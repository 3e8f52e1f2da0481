"""A place in, the bytes that lie there out: what readers of shards ask of a file, and of an object in a bucket."""

import os
from collections.abc import Callable, Sequence
from io import BufferedReader
from pathlib import Path
from typing import Any, Protocol

from zebra.errors import DataError

ByteRange = tuple[int, int]
"""Offset and size, in bytes."""


class Blob(Protocol):
    """Bytes that lie somewhere and do not change; a read gives all that was asked for, or raises DataError.

    What it needs for reading is opened in the process that reads, so that it travels to workers, forked or not.
    """

    @property
    def name(self) -> str:
        """The path or URL as given."""

    @property
    def identity(self) -> tuple[object, ...]:
        """Equal as long as the bytes are the same: place, size, and time of change or ETag."""

    @property
    def size(self) -> int:
        """In bytes."""

    def open(self) -> BufferedReader:
        """Return the bytes as a file, for reading from front to back."""

    def start_read(self, byte_ranges: Sequence[ByteRange]) -> Callable[[], list[bytes]]:
        """Begin to read; what is returned waits for the bytes of every place.

        Raises:
            DataError: The bytes cannot be had, or are not those any more that `identity` stands for.
        """

    def read_sibling(self, name: str) -> bytes | None:
        """Return a small file that lies next to this one, None if there is none."""

    def close(self) -> None:
        """Free what is held open; it comes back when it is needed."""


class LocalBlob:
    """A file on this machine, bound to its size and time of change."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path)
        try:
            stat = path.stat()
        except OSError as error:
            raise DataError(f"cannot open {path}: {error.strerror}") from error
        self.size = stat.st_size
        self.identity = (str(path.resolve()), *_size_and_mtime(stat))
        self._descriptor: int | None = None

    def open(self) -> BufferedReader:
        """Return the file, opened for reading."""
        return self.path.open("rb")

    def start_read(self, byte_ranges: Sequence[ByteRange]) -> Callable[[], list[bytes]]:
        """Read at once: a disk has nothing to do while others wait."""
        if self._descriptor is None:
            self._descriptor = self._open_descriptor()
        data = [
            os.pread(self._descriptor, size, offset) for offset, size in byte_ranges
        ]  # forks share the position
        whole = [len(part) for part in data] == [size for _, size in byte_ranges]
        if not whole or _size_and_mtime(os.fstat(self._descriptor)) != self.identity[1:]:
            raise DataError(f"{self.path} changed while it was in use; start again to index it anew")
        return lambda: data

    def read_sibling(self, name: str) -> bytes | None:
        """Return a file of the same folder, None if there is none."""
        path = self.path.with_name(name)
        try:
            return path.read_bytes() if path.is_file() else None
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror}") from error

    def close(self) -> None:
        """Close the file until it is read again."""
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
            raise DataError(f"cannot open {self.path} any more: {error.strerror}") from error


def _size_and_mtime(stat: os.stat_result) -> tuple[int, int]:
    return stat.st_size, stat.st_mtime_ns
