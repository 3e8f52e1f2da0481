"""Blocks of remote shards on this machine's disk, within a limit: what rested longest makes room."""

import os
import warnings
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from zebra.atomic_io import atomic_write

BLOCK_BYTES = 256 << 10
"""What is fetched and kept together: a few pictures, about as much as arrives in the time a request takes anyway."""
CHECKSUM_BYTES = 4


class BlockCache:
    """A folder of blocks that any number of processes read and write at the same time.

    A block comes into being whole, by renaming, and ends with a checksum, so that one cut by a crash or damaged by the
    disk is fetched again instead of believed. Each process clears up after having written 1/64 of the limit, down to
    what `room` says; eight writing processes stay within the limit.
    """

    def __init__(self, cache_dir: Path, max_bytes: int) -> None:
        self.cache_dir = cache_dir
        self.max_bytes = max_bytes
        self.target_bytes = max_bytes * 3 // 4
        """Bytes that stay."""
        self._bytes_since_eviction = 0
        self._has_warned = False

    def read(self, key: str, block_index: int, size: int) -> bytes | None:
        """Return a block, None if it is not here or not sound."""
        path = self._block_path(key, block_index)
        try:
            stored = path.read_bytes()
            os.utime(path)  # used now
        except FileNotFoundError:
            return None
        data = stored[:-CHECKSUM_BYTES]
        return data if len(data) == size and _checksum(data) == stored[-CHECKSUM_BYTES:] else None

    def write(self, key: str, block_index: int, data: bytes) -> None:
        """Keep a block. A disk that takes nothing more is warned about once; it costs time, no data."""
        path = self._block_path(key, block_index)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_atomic(path, data + _checksum(data))
        except FileNotFoundError:  # so little room that another writer cleared it away unfinished
            return
        except OSError as error:
            if not self._has_warned:
                self._has_warned = True
                warnings.warn(
                    f"{self.cache_dir} takes no more shards ({error.strerror}), so they are fetched again and again; "
                    "make room, set ZEBRA_CACHE to another disk, or lower --data-options.shard-cache-bytes",
                    stacklevel=2,
                )
        self._bytes_since_eviction += len(data)
        if self._bytes_since_eviction > self.max_bytes // 64:
            self.evict()

    def evict(self) -> None:
        """Remove what was not used for longest until no more than `room` is taken."""
        self._bytes_since_eviction = 0
        found = sorted(self._iter_blocks())
        excess = sum(size for _, size, _ in found) - self.target_bytes
        for _, size, path in found:
            if excess <= 0:
                return
            Path(path).unlink(missing_ok=True)
            excess -= size

    def _iter_blocks(self) -> Iterator[tuple[int, int, str]]:
        """Yield (last use, size, path); what goes meanwhile, since another process clears up too, is left out."""
        for folder in self.cache_dir.glob("*"):
            for entry in os.scandir(folder):
                with suppress(FileNotFoundError):
                    stat = entry.stat()
                    yield stat.st_mtime_ns, stat.st_size, entry.path

    def _block_path(self, key: str, block_index: int) -> Path:
        return self.cache_dir / key[:2] / f"{key}-{block_index}"


def _checksum(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(CHECKSUM_BYTES, "big")


def _write_atomic(path: Path, content: bytes) -> None:
    with atomic_write(path) as partial:
        partial.write_bytes(content)
