"""Requests to an object store with retries, back-off and a limit of concurrency."""

import os
import random
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from zebra.data.remote.block_cache import BlockCache
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
"""With back-off, this takes about half a minute."""
MAX_TRIES_WITHOUT_RANGES = 3
"""Few tries, because a server that ignores a range request usually always does."""
INITIAL_BACKOFF_SECONDS = 0.25
MAX_CONCURRENT_REQUESTS = 16
"""Maximum number of concurrent requests per process."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _ProcessState:
    """Threads and a file system with event loop, sockets and locks, for one process only."""

    store: ObjectStore
    executor: ThreadPoolExecutor
    jitter_rng: random.Random
    """Separate generator, so that no other draw changes; seeded per process, so that retries do not coincide."""
    lock: threading.Lock = field(default_factory=threading.Lock)


class RetryingClient:
    """Client of an object store with retries and concurrency, shared by the shards of a source."""

    def __init__(self, url: str, cache: BlockCache | None) -> None:
        self.url = url
        self.cache = cache
        self.num_retries = 0
        """Number of retries in this process, plus those of its parents before the fork."""
        self._state_by_pid: dict[int, _ProcessState] = {}
        """Process ID → state. A parent's state is kept, since closing it would wait for its event loop."""

    def call_with_retries(self, url: str, request: Callable[[ObjectStore], T]) -> T:
        """Return the result of `request`, with up to MAX_TRIES tries and exponential back-off.

        Raises:
            DataError: The store refuses, or all tries fail; the message has the URL and the number of tries.
            FileNotFoundError, PermissionError: Raised by the store; a retry would not help.
        """
        state = self._process_state()
        failures: list[Exception] = []
        while True:
            try:
                return request(state.store)
            except (ZebraError, FileNotFoundError, PermissionError):
                raise
            except Exception as error:  # each protocol has its own library and errors
                failures.append(error)
            reason = _give_up_reason(url, failures)
            if reason:
                raise DataError(reason) from failures[-1]
            if len(failures) == MAX_TRIES // 2:
                warnings.warn(
                    f"{url} failed {len(failures)} times ({_format_error(failures[-1])}). Still trying", stacklevel=2
                )
            with state.lock:
                self.num_retries += 1
            time.sleep(INITIAL_BACKOFF_SECONDS * 2 ** (len(failures) - 1) * (0.5 + state.jitter_rng.random()))

    def get_version(self, url: str) -> ObjectVersion | None:
        """Return the current version of an object, or None if it does not exist."""
        try:
            return self.call_with_retries(url, lambda store: store.get_version(url))
        except FileNotFoundError:
            return None
        except PermissionError as error:
            raise access_denied_error(url, error) from error

    def map(self, fn: Callable[[str], T], urls: Iterable[str]) -> list[T]:
        """Call a function with many URLs, concurrently, and return the results in order."""
        return list(self._process_state().executor.map(fn, urls))

    def submit(self, fn: Callable[..., T], *args: Any) -> Future[T]:
        """Start a call in a thread of this process."""
        return self._process_state().executor.submit(fn, *args)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_state_by_pid": {}}

    def _process_state(self) -> _ProcessState:
        pid = os.getpid()
        if pid not in self._state_by_pid:
            executor = ThreadPoolExecutor(MAX_CONCURRENT_REQUESTS, "shards")
            self._state_by_pid[pid] = _ProcessState(open_object_store(self.url), executor, random.Random(pid))
        return self._state_by_pid[pid]


def _give_up_reason(url: str, failures: Sequence[Exception]) -> str | None:
    if not _is_retryable(failures[-1]):
        return f"{url} cannot be read: {_format_error(failures[-1])}"
    if len(failures) >= MAX_TRIES_WITHOUT_RANGES and all(isinstance(error, RangeNotSupported) for error in failures):
        return (
            f"{url} cannot be read by byte ranges: {failures[-1]}. Use a server that supports Range requests "
            "(python -m http.server does not), or download the shards"
        )
    if len(failures) >= MAX_TRIES:
        return (
            f"{url} could not be read in {len(failures)} tries. The last error: {_format_error(failures[-1])}. "
            "Check the network and the store, then start again"
        )
    return None


def _is_retryable(error: Exception) -> bool:
    """Return whether the same request may succeed later."""
    if isinstance(error, NonRetryableError | IsADirectoryError | NotADirectoryError):
        return False
    status = getattr(getattr(error, "response", error), "status_code", None)
    if isinstance(status, int):
        return status in RETRYABLE_STATUSES
    if isinstance(error, OSError | EOFError):
        return True
    # Built-in errors are bugs, and missing credentials stay missing. Other errors are those of the store's library.
    error_type = type(error)
    return error_type.__module__ != "builtins" and "Credential" not in error_type.__name__


def _format_error(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ")


def access_denied_error(url: str, error: PermissionError) -> DataError:
    """Return the DataError for an object that the store denies."""
    return DataError(
        f"{url}: access is denied, or the object does not exist ({error}). Check the URL and your credentials"
    )
