"""Turns for what neither the event loop does nor a pass of the model: decoding, and, in threads, disks and search."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from zebra.serve.errors import HTTPError

P = ParamSpec("P")
T = TypeVar("T")


class BoundedQueue:
    """Lets so many calls run at once, and only so many wait."""

    def __init__(
        self, max_running: int, max_pending: int, callback: Callable[[float], None] = lambda _seconds: None
    ) -> None:
        """Begin with none.

        Args:
            max_pending: Calls that run or wait.
            callback: Is told how many seconds each took.
        """
        self._semaphore = asyncio.Semaphore(max_running)
        self._max_pending = max_pending
        self._callback = callback
        self._num_pending = 0

    def __len__(self) -> int:
        """Return how many calls wait or run."""
        return self._num_pending

    async def __call__(self, function: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call it; a call that is cancelled before its turn never runs.

        Raises:
            Refusal: Too many wait already (429).
        """
        if self._num_pending >= self._max_pending:
            raise HTTPError(429, "the server is busy; try again later", retry_after_seconds=1)
        self._num_pending += 1
        try:
            async with self._semaphore:
                began = time.monotonic()
                result = await function(*args, **kwargs)
                self._callback(time.monotonic() - began)
                return result
        finally:
            self._num_pending -= 1


class BoundedThreadPool:
    """Runs calls in threads, as many at once as there are threads; only so many may wait."""

    def __init__(
        self,
        name: str,
        num_threads: int,
        max_pending: int,
        callback: Callable[[float], None] = lambda _seconds: None,
    ) -> None:
        self._executor = ThreadPoolExecutor(num_threads, thread_name_prefix=name)
        self._queue = BoundedQueue(num_threads, max_pending, callback)

    async def __call__(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call it; Refusal (429) if too many wait already."""
        return await self._queue(self._run_in_thread, partial(function, *args, **kwargs))

    async def _run_in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, call)

    def close(self) -> None:
        """Wait for what runs; what waits is dropped."""
        self._executor.shutdown(cancel_futures=True)
