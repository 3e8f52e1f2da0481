"""Remote shards, read by coalesced byte ranges through a block cache.

Training reads samples in shuffled order, so each sample that is not cached costs one request. The cache stores blocks
(`block_cache.BLOCK_BYTES`), not entire shards. So the first batch downloads a few blocks per sample instead of every
shard it touches.

Shards use the cache, in order, as long as they fit into `DataConfig.shard_cache_bytes`. Each of their bytes is
downloaded once, for all epochs and later runs. The other shards are read by exact ranges: one request per sample and
epoch, without surplus bytes. They do not use the cache, which would evict blocks before they are used again. The order
of samples is the same in every case.

A shard is indexed once, by its headers. Payloads of megabytes are skipped. Images are so close to each other that the
shard is read sequentially, and cached if it fits. A shard with a checksum file is read a second time. Every start of a
run requests the version of each shard and its sidecar files: three small requests per shard, sent concurrently.
"""

import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import groupby
from typing import Any

from zebra.config.cache import cache_dir
from zebra.data.remote.blobs import ByteRange
from zebra.data.remote.block_cache import BLOCK_BYTES, BlockCache
from zebra.data.remote.object_store import ObjectVersion
from zebra.data.remote.retry import RetryingClient, access_denied_error
from zebra.errors import DataError

MAX_GAP_BYTES = 64 << 10
"""Ranges with a smaller gap are coalesced: the gap arrives sooner than another response would."""
MAX_REQUEST_BYTES = 8 << 20
"""Maximum size of a coalesced request."""
MAX_SEQUENTIAL_SKIP_BYTES = 1 << 20
"""Larger payloads are skipped when headers are read; smaller ones arrive within a round trip."""


def open_remote_shards(name: str, urls: Sequence[str], max_cache_bytes: int) -> list["RemoteBlob"]:
    """Open shards at URLs, or all shards in a folder if there is one URL without .tar.

    Args:
        name: The user's name of the dataset, for messages.
        urls: URLs of one protocol that fsspec supports.
        max_cache_bytes: Maximum size of the block cache; 0 disables it.

    Raises:
        DataError: Shards are missing, access is denied, or the store keeps failing.
        MissingExtra: The package for the protocol is not installed.
    """
    cache = BlockCache(cache_dir() / "blocks", max_cache_bytes) if max_cache_bytes else None
    if cache:
        cache.evict()
    client = RetryingClient(urls[0], cache)
    if len(urls) == 1 and not urls[0].partition("?")[0].endswith(".tar"):
        urls = client.call_with_retries(urls[0], lambda store: store.list_shards(urls[0]))
        if not urls:
            raise DataError(
                f"{name} has no .tar shards. Give their folder, one .tar, or a pattern such as …/{{00..12}}.tar"
            )
    versions = client.map(client.get_version, urls)
    missing = [url for url, version in zip(urls, versions, strict=True) if version is None]
    if missing:
        raise DataError(
            f"{len(missing)} of the {len(urls)} shards of {name} are missing, first {missing[0]}. "
            "Upload them, or name only the shards that exist"
        )
    free_bytes = cache.target_bytes if cache else 0
    blobs = []
    for url, version in zip(urls, versions, strict=True):
        assert version
        fits = version.size <= free_bytes
        free_bytes -= version.size if fits else 0
        blobs.append(RemoteBlob(client, url, version, use_cache=fits))
    return blobs


class RemoteBlob:
    """An object at a URL, identified by its size and tag (ETag, checksum or modification time).

    Each process verifies the version before its first read. For a web server, every response is verified.
    """

    def __init__(self, client: RetryingClient, url: str, version: ObjectVersion, *, use_cache: bool) -> None:
        self.client = client
        self.name = url
        self.size = version.size
        self.identity = (url, *version)
        self._version = version
        self._cache = client.cache if use_cache else None
        self._key = sha256(repr(self.identity).encode()).hexdigest()[:32]
        self._verified_pid: int | None = None
        """ID of the process that last verified the version."""

    def open(self) -> io.BufferedReader:
        """Open the object as a file that reads ahead."""
        return io.BufferedReader(_ReadAheadFile(self))

    def start_read(self, byte_ranges: Sequence[ByteRange]) -> Callable[[], list[bytes]]:
        """Start reads of coalesced ranges, in the background."""
        alignment = BLOCK_BYTES if self._cache else 1
        requests = _coalesce_ranges([byte_range for byte_range in byte_ranges if byte_range[1]], alignment, self.size)
        responses = [
            (request, self.client.submit(self._read_verified, request.start, request.end)) for request in requests
        ]

        def wait() -> list[bytes]:
            results = dict.fromkeys(byte_ranges, b"")
            for request, response in responses:
                data = response.result()
                for offset, size in request.byte_ranges:
                    start = offset - request.start
                    results[offset, size] = data[start : start + size]
            return [results[byte_range] for byte_range in byte_ranges]

        return wait

    def read_sibling(self, name: str) -> bytes | None:
        """Return an object of the same folder, or None if it does not exist."""
        if "?" in self.name:  # a signed URL has no siblings
            return None
        url = f"{self.name.rpartition('/')[0]}/{name}"
        try:
            return self.client.call_with_retries(url, lambda store: store.get(url))
        except (FileNotFoundError, PermissionError):  # without list permission, a missing object is a 403
            return None

    def close(self) -> None:
        """Do nothing: connections belong to the client."""

    def _read_verified(self, start: int, end: int) -> bytes:
        if self._verified_pid != os.getpid():
            if self.client.get_version(self.name) != self._version:
                raise self._changed_error()
            self._verified_pid = os.getpid()
        return self.read_range(start, end)

    def read_range(self, start: int, end: int) -> bytes:
        """Return bytes from the cache or the store. With a cache, `start` and `end` must be block boundaries."""
        if self._cache is None:
            return self._fetch_range(start, end)
        numbers = range(start // BLOCK_BYTES, -(-end // BLOCK_BYTES))
        blocks: dict[int, bytes] = {}
        for number in numbers:
            block = self._cache.read(self._key, number, min(BLOCK_BYTES, self.size - number * BLOCK_BYTES))
            if block is not None:
                blocks[number] = block
        for is_cached, run in groupby(numbers, blocks.__contains__):
            if not is_cached:
                missing = list(run)
                first = missing[0] * BLOCK_BYTES
                data = self._fetch_range(first, min((missing[-1] + 1) * BLOCK_BYTES, self.size))
                for number in missing:
                    offset = number * BLOCK_BYTES - first
                    blocks[number] = data[offset : offset + BLOCK_BYTES]
                    self._cache.write(self._key, number, blocks[number])
        return b"".join(blocks[number] for number in numbers)

    def _fetch_range(self, start: int, end: int) -> bytes:
        try:
            version, data = self.client.call_with_retries(
                self.name, lambda store: store.get_range(self.name, start, end - start)
            )
        except FileNotFoundError as error:
            raise self._changed_error() from error
        except PermissionError as error:
            raise access_denied_error(self.name, error) from error
        if version not in (None, self._version):
            raise self._changed_error()
        return data

    def _changed_error(self) -> DataError:
        return DataError(f"{self.name} has changed or was removed while it was in use. Start again to index it anew")


@dataclass(slots=True)
class _RangeRequest:
    """One request, and the byte ranges that it covers."""

    start: int
    end: int
    byte_ranges: list[ByteRange]


def _coalesce_ranges(byte_ranges: Sequence[ByteRange], alignment: int, total_bytes: int) -> list[_RangeRequest]:
    """Return requests that cover the byte ranges; their bounds are multiples of `alignment`, or the object's end."""
    requests: list[_RangeRequest] = []
    for offset, size in sorted(byte_ranges):
        start = offset // alignment * alignment
        end = min(-(-(offset + size) // alignment) * alignment, total_bytes)
        last = requests[-1] if requests else None
        if last and start - last.end <= MAX_GAP_BYTES and end - last.start <= MAX_REQUEST_BYTES:
            last.end = max(last.end, end)
            last.byte_ranges.append((offset, size))
        else:
            requests.append(_RangeRequest(start, end, [(offset, size)]))
    return requests


class _ReadAheadFile(io.RawIOBase):
    """A blob as a file. The read-ahead doubles during sequential reads and is reset after a long skip."""

    def __init__(self, blob: RemoteBlob) -> None:
        self._blob = blob
        self._position = 0
        self._buffer_start = 0
        self._buffer = b""
        """Bytes from `_buffer_start` on."""
        self._num_blocks = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._blob.size}[whence]
        return self._position

    def readinto(self, buffer: Any) -> int:
        if not self._buffer_start <= self._position < self._buffer_start + len(self._buffer):
            self._fill_buffer()
        offset = self._position - self._buffer_start
        part = self._buffer[offset : offset + len(buffer)]
        buffer[: len(part)] = part
        self._position += len(part)
        return len(part)

    def _fill_buffer(self) -> None:
        skipped = self._position - self._buffer_start - len(self._buffer)
        is_sequential = 0 <= skipped <= MAX_SEQUENTIAL_SKIP_BYTES and self._num_blocks
        self._num_blocks = min(2 * self._num_blocks, MAX_REQUEST_BYTES // BLOCK_BYTES) if is_sequential else 1
        self._buffer_start = self._position // BLOCK_BYTES * BLOCK_BYTES
        end = min(self._buffer_start + self._num_blocks * BLOCK_BYTES, self._blob.size)
        self._buffer = self._blob.read_range(self._buffer_start, end) if self._buffer_start < end else b""
