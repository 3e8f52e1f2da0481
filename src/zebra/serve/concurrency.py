"""Turns for what neither the event loop does nor a pass of the model: decoding, and, in threads, disks and search."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from zebra.serve.errors import Refusal

P = ParamSpec("P")
T = TypeVar("T")


class Turns:
    """Lets so many calls run at once, and only so many wait."""

    def __init__(
        self, at_once: int, capacity: int, watch: Callable[[float], None] = lambda _seconds: None
    ) -> None:
        """Begin with none.

        Args:
            capacity: Calls that run or wait.
            watch: Is told how many seconds each took.
        """
        self._turn = asyncio.Semaphore(at_once)
        self._capacity = capacity
        self._watch = watch
        self._calls = 0

    def __len__(self) -> int:
        """Return how many calls wait or run."""
        return self._calls

    async def __call__(self, function: Callable[P, Awaitable[T]], *arguments: P.args, **named: P.kwargs) -> T:
        """Call it; a call that is cancelled before its turn never runs.

        Raises:
            Refusal: Too many wait already (429).
        """
        if self._calls >= self._capacity:
            raise Refusal(429, "the server is busy; try again later", retry_seconds=1)
        self._calls += 1
        try:
            async with self._turn:
                began = time.monotonic()
                result = await function(*arguments, **named)
                self._watch(time.monotonic() - began)
                return result
        finally:
            self._calls -= 1


class Pool:
    """Runs calls in threads, as many at once as there are threads; only so many may wait."""

    def __init__(
        self, name: str, workers: int, capacity: int, watch: Callable[[float], None] = lambda _seconds: None
    ) -> None:
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix=name)
        self._turns = Turns(workers, capacity, watch)

    async def __call__(self, function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Call it; Refusal (429) if too many wait already."""
        return await self._turns(self._in_a_thread, partial(function, *arguments, **named))

    async def _in_a_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, call)

    def close(self) -> None:
        """Wait for what runs; what waits is dropped."""
        self._executor.shutdown(cancel_futures=True)
