"""URLs of shards in, blobs that are read in merged ranges, through a cache, with patience, out.

Training reads in a shuffled order, so a sample costs one request unless it is on disk. What is kept on disk are blocks
(`blocks.BLOCK_BYTES`), not whole shards: the first batch then costs a block per sample, not every shard it touches.
The shards that fit into `DataConfig.shard_cache_bytes`, in order, go through blocks: each of their bytes crosses the
network once, for all epochs and later runs. Those that do not fit are read by exact ranges, one request and no surplus
bytes per sample and epoch; a cache smaller than the data would fetch blocks to throw them away before they are used.
The order of samples is the same in every case.

A shard is indexed once, by its headers. Payloads of megabytes are skipped; pictures lie so close together that the
shard is read from front to back, and kept where it fits. A shard with a checksum beside it is read a second time.
Every start of a run asks for each shard's version and for what may lie beside it: three small requests, many at a time.
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
"""Ranges with no more than this between them are one request: the gap arrives before another answer would begin."""
MAX_REQUEST_BYTES = 8 << 20
"""The longest request that is made of several."""
MAX_SEQUENTIAL_SKIP_BYTES = 1 << 20
"""A payload longer than this is skipped when headers are read; a shorter one arrives within a round trip."""


def open_remote_shards(name: str, urls: Sequence[str], max_cache_bytes: int) -> list["RemoteBlob"]:
    """Open shards at URLs, or all that lie in the folder that the only URL names.

    Args:
        name: What the user gave, for messages.
        urls: Of one protocol: anything that fsspec reads.
        max_cache_bytes: Room on disk for what was fetched.

    Raises:
        DataError: Shards are missing, access is denied, or the store fails again and again.
        MissingExtra: The package for the protocol is not installed.
    """
    cache = BlockCache(cache_dir() / "blocks", max_cache_bytes) if max_cache_bytes else None
    if cache:
        cache.evict()
    remote = RetryingClient(urls[0], cache)
    if len(urls) == 1 and not urls[0].partition("?")[0].endswith(".tar"):
        urls = remote.call_with_retries(urls[0], lambda store: store.list_shards(urls[0]))
        if not urls:
            raise DataError(
                f"{name} holds no .tar shards; give their folder, one .tar, or a pattern like …/{{00..12}}.tar"
            )
    versions = remote.map(remote.get_version, urls)
    missing = [url for url, version in zip(urls, versions, strict=True) if version is None]
    if missing:
        raise DataError(
            f"{len(missing)} of the {len(urls)} shards of {name} are missing, first {missing[0]}; "
            "upload them, or name only those that are there"
        )
    room = cache.target_bytes if cache else 0
    blobs = []
    for url, version in zip(urls, versions, strict=True):
        assert version
        fits = version.size <= room
        room -= version.size if fits else 0
        blobs.append(RemoteBlob(remote, url, version, use_cache=fits))
    return blobs


class RemoteBlob:
    """An object at a URL, bound to its size and ETag (or checksum, or time of change, as the store has it).

    That it is still the same is checked once in every process, before its first read, and with every answer of a web
    server.
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
        """The process in which the object was last seen to be the one that was opened."""

    def open(self) -> io.BufferedReader:
        """Return the object as a file that reads ahead."""
        return io.BufferedReader(_ReadAheadFile(self))

    def start_read(self, byte_ranges: Sequence[ByteRange]) -> Callable[[], list[bytes]]:
        """Send the requests for what is not in the cache."""
        unit = BLOCK_BYTES if self._cache else 1
        spans = _coalesce_ranges([place for place in byte_ranges if place[1]], unit, self.size)
        answers = [(span, self.client.submit(self._read_verified, span.start, span.end)) for span in spans]

        def end() -> list[bytes]:
            found = dict.fromkeys(byte_ranges, b"")
            for span, answer in answers:
                data = answer.result()
                for offset, size in span.byte_ranges:
                    begin = offset - span.start
                    found[offset, size] = data[begin : begin + size]
            return [found[place] for place in byte_ranges]

        return end

    def read_sibling(self, name: str) -> bytes | None:
        """Return an object of the same folder, None if there is none."""
        if "?" in self.name:  # no path, so there is no folder
            return None
        url = f"{self.name.rpartition('/')[0]}/{name}"
        try:
            return self.client.call_with_retries(url, lambda store: store.get(url))
        except (FileNotFoundError, PermissionError):  # who may not list a bucket is denied what is not there
            return None

    def close(self) -> None:
        """Nothing is held for a single object."""

    def _read_verified(self, start: int, end: int) -> bytes:
        if self._verified_pid != os.getpid():
            if self.client.get_version(self.name) != self._version:
                raise self._changed_error()
            self._verified_pid = os.getpid()
        return self.read_range(start, end)

    def read_range(self, start: int, end: int) -> bytes:
        """Return bytes from the cache, else from the store; with a cache, both ends must be ends of blocks."""
        if self._cache is None:
            return self._fetch_range(start, end)
        numbers = range(start // BLOCK_BYTES, -(-end // BLOCK_BYTES))
        blocks: dict[int, bytes] = {}
        for number in numbers:
            block = self._cache.read(self._key, number, min(BLOCK_BYTES, self.size - number * BLOCK_BYTES))
            if block is not None:
                blocks[number] = block
        for known, run in groupby(numbers, blocks.__contains__):
            if not known:
                missing = list(run)
                first = missing[0] * BLOCK_BYTES
                data = self._fetch_range(first, min((missing[-1] + 1) * BLOCK_BYTES, self.size))
                for number in missing:
                    begin = number * BLOCK_BYTES - first
                    blocks[number] = data[begin : begin + BLOCK_BYTES]
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
        return DataError(
            f"{self.name} changed or was removed while it was in use; start again to index it anew"
        )


@dataclass(slots=True)
class _RangeRequest:
    """One request, and the places it is for."""

    start: int
    end: int
    byte_ranges: list[ByteRange]


def _coalesce_ranges(
    byte_ranges: Sequence[ByteRange], alignment: int, total_bytes: int
) -> list[_RangeRequest]:
    """Return the requests that cover places; each begins and ends at a multiple of `alignment`, or at the end."""
    spans: list[_RangeRequest] = []
    for offset, size in sorted(byte_ranges):
        start = offset // alignment * alignment
        end = min(-(-(offset + size) // alignment) * alignment, total_bytes)
        last = spans[-1] if spans else None
        if last and start - last.end <= MAX_GAP_BYTES and end - last.start <= MAX_REQUEST_BYTES:
            last.end = max(last.end, end)
            last.byte_ranges.append((offset, size))
        else:
            spans.append(_RangeRequest(start, end, [(offset, size)]))
    return spans


class _ReadAheadFile(io.RawIOBase):
    """A blob as a file. What it reads ahead doubles while reading goes on, and begins small behind what was skipped."""

    def __init__(self, blob: RemoteBlob) -> None:
        self._blob = blob
        self._position = 0
        self._buffer_start = 0
        self._buffer = b""
        """What was read ahead, from `_start` on."""
        self._num_blocks = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = (
            offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._blob.size}[whence]
        )
        return self._position

    def readinto(self, buffer: Any) -> int:
        if not self._buffer_start <= self._position < self._buffer_start + len(self._buffer):
            self._fill_buffer()
        inside = self._position - self._buffer_start
        part = self._buffer[inside : inside + len(buffer)]
        buffer[: len(part)] = part
        self._position += len(part)
        return len(part)

    def _fill_buffer(self) -> None:
        skipped = self._position - self._buffer_start - len(self._buffer)
        goes_on = 0 <= skipped <= MAX_SEQUENTIAL_SKIP_BYTES and self._num_blocks
        self._num_blocks = min(2 * self._num_blocks, MAX_REQUEST_BYTES // BLOCK_BYTES) if goes_on else 1
        self._buffer_start = self._position // BLOCK_BYTES * BLOCK_BYTES
        end = min(self._buffer_start + self._num_blocks * BLOCK_BYTES, self._blob.size)
        self._buffer = self._blob.read_range(self._buffer_start, end) if self._buffer_start < end else b""
