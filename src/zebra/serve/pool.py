"""A few threads for what is neither the model's nor the event loop's work: decoding, hashing, searching."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from zebra.serve.refusals import Refusal

P = ParamSpec("P")
T = TypeVar("T")


class Pool:
    """Runs calls in threads; only so many may wait."""

    def __init__(
        self, name: str, workers: int, capacity: int, watch: Callable[[float], None] = lambda _seconds: None
    ) -> None:
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix=name)
        self._capacity = capacity
        self._watch = watch
        self._calls = 0

    def __len__(self) -> int:
        """Return how many calls wait or run."""
        return self._calls

    async def __call__(self, function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Call it; a call that is cancelled before its turn never runs.

        Raises:
            Refusal: Too many wait already (429).
        """
        if self._calls >= self._capacity:
            raise Refusal(429, "the server is busy; try again later", retry_seconds=1)
        self._calls += 1
        try:
            return await asyncio.wrap_future(
                self._executor.submit(self._timed, partial(function, *arguments, **named))
            )
        finally:
            self._calls -= 1

    def _timed(self, call: Callable[[], T]) -> T:
        began = time.monotonic()
        result = call()
        self._watch(time.monotonic() - began)
        return result

    def close(self) -> None:
        """Wait for what runs; what waits is dropped."""
        self._executor.shutdown(cancel_futures=True)
