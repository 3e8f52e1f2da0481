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
import random
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import groupby
from typing import Any, TypeVar

from zebra.config.cache import cache_dir
from zebra.data.remote.blobs import ByteRange
from zebra.data.remote.block_cache import BLOCK_BYTES, BlockCache
from zebra.data.remote.object_store import (
    RETRYABLE_STATUSES,
    NonRetryableError,
    ObjectStore,
    ObjectVersion,
    RangeNotSupported,
    open_object_store,
)
from zebra.errors import DataError, ZebraError

MAX_TRIES = 8
"""With the waits between them they last half a minute."""
MAX_TRIES_WITHOUT_RANGES = 3
"""A server that sends the whole object mostly does so by nature."""
INITIAL_BACKOFF_SECONDS = 0.25
MAX_CONCURRENT_REQUESTS = 16
"""Requests that one process has under way."""
MAX_GAP_BYTES = 64 << 10
"""Ranges with no more than this between them are one request: the gap arrives before another answer would begin."""
MAX_REQUEST_BYTES = 8 << 20
"""The longest request that is made of several."""
MAX_SEQUENTIAL_SKIP_BYTES = 1 << 20
"""A payload longer than this is skipped when headers are read; a shorter one arrives within a round trip."""

T = TypeVar("T")


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


@dataclass(frozen=True, slots=True)
class _ProcessState:
    """What only the process that made it may use: threads, and a file system with a loop, sockets and locks."""

    store: ObjectStore
    executor: ThreadPoolExecutor
    jitter_rng: random.Random
    """Of its own, so that no other draw moves; different in each process, so that they do not come back at once."""
    lock: threading.Lock = field(default_factory=threading.Lock)


class RetryingClient:
    """What the shards of a source share: a store per process, its threads, and patience."""

    def __init__(self, url: str, cache: BlockCache | None) -> None:
        self.url = url
        self.cache = cache
        self.num_retries = 0
        """Requests that were made again, in this process and those it was forked from."""
        self._state_by_pid: dict[int, _ProcessState] = {}
        """By process id; a parent's stays where it is, since to take it apart would mean to wait for its loop."""

    def call_with_retries(self, url: str, request: Callable[[ObjectStore], T]) -> T:
        """Ask until there is an answer, for half a minute, waiting longer each time.

        Raises:
            DataError: The store refuses, or fails each time; names URL and tries.
            FileNotFoundError, PermissionError: As the store says; to ask again would not help.
        """
        here = self._process_state()
        failures: list[Exception] = []
        while True:
            try:
                return request(here.store)
            except (ZebraError, FileNotFoundError, PermissionError):
                raise
            except Exception as error:  # the library behind each protocol has errors of its own
                failures.append(error)
            reason = _give_up_reason(url, failures)
            if reason:
                raise DataError(reason) from failures[-1]
            if len(failures) == MAX_TRIES // 2:
                warnings.warn(
                    f"{url} failed {len(failures)} times ({_format_error(failures[-1])}); still trying",
                    stacklevel=2,
                )
            with here.lock:
                self.num_retries += 1
            time.sleep(INITIAL_BACKOFF_SECONDS * 2 ** (len(failures) - 1) * (0.5 + here.jitter_rng.random()))

    def get_version(self, url: str) -> ObjectVersion | None:
        """Return what lies at a URL now, None if nothing does."""
        try:
            return self.call_with_retries(url, lambda store: store.get_version(url))
        except FileNotFoundError:
            return None
        except PermissionError as error:
            raise access_denied_error(url, error) from error

    def map(self, fn: Callable[[str], T], urls: Iterable[str]) -> list[T]:
        """Do the same with many URLs, several at a time."""
        return list(self._process_state().executor.map(fn, urls))

    def submit(self, fn: Callable[..., T], *args: Any) -> Future[T]:
        """Begin to do something in a thread of this process."""
        return self._process_state().executor.submit(fn, *args)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_state_by_pid": {}}

    def _process_state(self) -> _ProcessState:
        pid = os.getpid()
        if pid not in self._state_by_pid:
            threads = ThreadPoolExecutor(MAX_CONCURRENT_REQUESTS, "shards")
            self._state_by_pid[pid] = _ProcessState(open_object_store(self.url), threads, random.Random(pid))
        return self._state_by_pid[pid]


def _give_up_reason(url: str, failures: Sequence[Exception]) -> str | None:
    if not _is_retryable(failures[-1]):
        return f"{url} cannot be read: {_format_error(failures[-1])}"
    if len(failures) >= MAX_TRIES_WITHOUT_RANGES and all(
        isinstance(error, RangeNotSupported) for error in failures
    ):
        return (
            f"{url} cannot be read in parts: {failures[-1]}. Use a server that answers Range requests "
            "(python -m http.server does not), or download the shards"
        )
    if len(failures) >= MAX_TRIES:
        return (
            f"{url} could not be read in {len(failures)} tries, the last: {_format_error(failures[-1])}. "
            "Check the network and the store, then start again"
        )
    return None


def _is_retryable(error: Exception) -> bool:
    """Tell whether the same request may succeed later."""
    if isinstance(error, NonRetryableError | IsADirectoryError | NotADirectoryError):
        return False
    status = getattr(getattr(error, "response", error), "status_code", None)
    if isinstance(status, int):
        return status in RETRYABLE_STATUSES
    if isinstance(error, OSError | EOFError):
        return True
    kind = type(
        error
    )  # a mistake in a program is an error of Python's own, and missing credentials stay missing
    return kind.__module__ != "builtins" and "Credential" not in kind.__name__


def _format_error(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ")


def access_denied_error(url: str, error: PermissionError) -> DataError:
    return DataError(
        f"{url}: access is denied, or nothing is there ({error}); check the name and your credentials for the store"
    )


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
