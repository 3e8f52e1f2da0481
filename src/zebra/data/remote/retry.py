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
"""With the waits between them they last half a minute."""


MAX_TRIES_WITHOUT_RANGES = 3
"""A server that sends the whole object mostly does so by nature."""


INITIAL_BACKOFF_SECONDS = 0.25


MAX_CONCURRENT_REQUESTS = 16
"""Requests that one process has under way."""


T = TypeVar("T")


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
