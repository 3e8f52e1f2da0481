"""Limits on what runs at once: requests, weights, queues and threads."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, ParamSpec, TypeVar

from zebra.serve.errors import BUSY_MESSAGE, HTTPError

P = ParamSpec("P")
T = TypeVar("T")


class ConcurrencyLimit:
    """The number of requests in progress and the bytes of responses that wait to be sent, each with a maximum."""

    def __init__(self, max_requests: int, max_unsent_bytes: int) -> None:
        self.max_requests = max_requests
        self.num_active = 0
        self.num_rejected = 0
        self._max_unsent_bytes = max_unsent_bytes
        self.num_unsent_bytes = 0
        self._can_respond = asyncio.Event()
        self._can_respond.set()

    @property
    def is_full(self) -> bool:
        """Whether the next request has to be rejected."""
        return self.num_active >= self.max_requests or not self._can_respond.is_set()

    def add_unsent_bytes(self, num_bytes: int) -> None:
        """Count bytes that wait to be sent; a negative number for those that were sent."""
        self.num_unsent_bytes += num_bytes
        if self.num_unsent_bytes < self._max_unsent_bytes:
            self._can_respond.set()
        else:
            self._can_respond.clear()

    async def wait_for_readers(self) -> None:
        """Wait until fewer bytes than the maximum wait to be sent; call it before a large response is built."""
        await self._can_respond.wait()


class WeightLimit:
    """Admit holders in order, while their weights add up to at most a maximum; a heavier one is admitted alone."""

    def __init__(self, max_weight: int) -> None:
        self._max_weight = max_weight
        self._held = 0
        self._waiters: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def hold(self, weight: int) -> AsyncIterator[None]:
        """Hold a weight until the block ends; wait until it is admitted."""
        weight = min(weight, self._max_weight)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append((weight, future))
        self._admit()
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():  # admitted and canceled at once
                self._release(weight)
            self._admit()
            raise
        try:
            yield
        finally:
            self._release(weight)

    def _release(self, weight: int) -> None:
        self._held -= weight
        self._admit()

    def _admit(self) -> None:
        while self._waiters:
            weight, future = self._waiters[0]
            if not future.cancelled():
                if self._held + weight > self._max_weight:
                    return
                self._held += weight
                future.set_result(None)
            self._waiters.popleft()


class BoundedQueue:
    """Run at most `max_running` calls at once, and reject calls beyond `max_pending`."""

    def __init__(
        self, max_running: int, max_pending: int, callback: Callable[[float], None] = lambda _seconds: None
    ) -> None:
        """Create an empty queue.

        Args:
            max_pending: Maximum number of calls that run or wait.
            callback: Receives the seconds that each call ran.
        """
        self._semaphore = asyncio.Semaphore(max_running)
        self._max_pending = max_pending
        self._callback = callback
        self._num_pending = 0

    def __len__(self) -> int:
        """Return how many calls wait or run."""
        return self._num_pending

    async def __call__(self, function: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function in its turn; a call that is canceled before its turn never runs.

        Raises:
            HTTPError: Too many calls are waiting (429).
        """
        if self._num_pending >= self._max_pending:
            raise HTTPError(429, BUSY_MESSAGE, retry_after_seconds=1)
        self._num_pending += 1
        try:
            async with self._semaphore:
                started_at = time.monotonic()
                result = await function(*args, **kwargs)
                self._callback(time.monotonic() - started_at)
                return result
        finally:
            self._num_pending -= 1


class BoundedThreadPool:
    """A thread pool that rejects calls when too many are waiting."""

    def __init__(
        self, name: str, num_threads: int, max_pending: int, callback: Callable[[float], None] = lambda _seconds: None
    ) -> None:
        self._executor = ThreadPoolExecutor(num_threads, thread_name_prefix=name)
        self._queue = BoundedQueue(num_threads, max_pending, callback)

    async def __call__(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function in a thread; HTTPError (429) if too many calls are waiting."""
        return await self._queue(self._run_in_thread, partial(function, *args, **kwargs))

    async def _run_in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, call)

    def close(self) -> None:
        """Drop the waiting calls and wait for the running ones."""
        self._executor.shutdown(cancel_futures=True)


async def gather_or_cancel(coroutines: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Await coroutines concurrently; if one fails, cancel the others."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
