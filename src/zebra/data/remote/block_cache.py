"""On-disk LRU cache of blocks of remote shards."""

import os
import warnings
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from zebra.atomic_io import atomic_write

BLOCK_BYTES = 256 << 10
"""Size of a cached block: a few images, about as much as arrives within the latency of a request."""
CHECKSUM_BYTES = 4


class BlockCache:
    """A folder of blocks that several processes may read and write concurrently.

    Blocks are written atomically and end with a checksum, so a truncated or damaged block is fetched again. Each
    process evicts blocks down to `target_bytes` after it has written 1/64 of `max_bytes`. Up to eight writing
    processes stay within the limit.
    """

    def __init__(self, cache_dir: Path, max_bytes: int) -> None:
        self.cache_dir = cache_dir
        self.max_bytes = max_bytes
        self.target_bytes = max_bytes * 3 // 4
        """Size of the cache after an eviction."""
        self._bytes_since_eviction = 0
        self._has_warned = False

    def read(self, key: str, block_index: int, size: int) -> bytes | None:
        """Return a block, or None if it is missing or damaged."""
        path = self._block_path(key, block_index)
        try:
            content = path.read_bytes()
            os.utime(path)  # marks it as recently used
        except FileNotFoundError:
            return None
        data = content[:-CHECKSUM_BYTES]
        return data if len(data) == size and _checksum(data) == content[-CHECKSUM_BYTES:] else None

    def write(self, key: str, block_index: int, data: bytes) -> None:
        """Write a block. If that fails, as on a full disk, warn once; the block is then fetched again."""
        path = self._block_path(key, block_index)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_atomic(path, data + _checksum(data))
        except FileNotFoundError:  # another process evicted the temporary file
            return
        except OSError as error:
            if not self._has_warned:
                self._has_warned = True
                warnings.warn(
                    f"cannot cache shards in {self.cache_dir} ({error.strerror}), so they are downloaded repeatedly. "
                    "Free disk space, set ZEBRA_CACHE to another disk, or lower --data-options.shard-cache-bytes",
                    stacklevel=2,
                )
        self._bytes_since_eviction += len(data)
        if self._bytes_since_eviction > self.max_bytes // 64:
            self.evict()

    def evict(self) -> None:
        """Remove the least recently used blocks until the size is at most `target_bytes`."""
        self._bytes_since_eviction = 0
        blocks = sorted(self._iter_blocks())
        excess = sum(size for _, size, _ in blocks) - self.target_bytes
        for _, size, path in blocks:
            if excess <= 0:
                return
            Path(path).unlink(missing_ok=True)
            excess -= size

    def _iter_blocks(self) -> Iterator[tuple[int, int, str]]:
        """Yield (last use, size, path), without files that another process evicts meanwhile."""
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
