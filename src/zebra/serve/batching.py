"""Items of many requests in, passes of the model over several of them, each request's own answers out."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from zebra.config.serve import BatchingConfig
from zebra.serve.errors import HTTPError

RESULTS_PER_YIELD = 8
"""Of a pass; between these, requests that arrive have their turn."""

X = TypeVar("X")
Y = TypeVar("Y")


@dataclass(frozen=True, slots=True)
class BatchStats:
    """What one pass over a batch took."""

    num_items: int
    wait_seconds: tuple[float, ...]
    """In the queue, each."""
    seconds: float


@dataclass(slots=True, eq=False)
class Job(Generic[X, Y]):
    """An item that waits for its answer."""

    item: X
    future: "asyncio.Future[Y]"
    enqueued_at: float


class Batcher(Generic[X, Y]):
    """Collects items until there are enough, or the first has waited long enough, and runs a function over them.

    One batch is with the function at a time; it gives one result for each item, in their order. An item whose request
    was cancelled is not computed. If the function fails, the items are tried one by one, so that a bad one fails alone.
    """

    def __init__(
        self,
        run: Callable[[Sequence[X]], Awaitable[Sequence[Y]]],
        config: BatchingConfig,
        callback: Callable[[BatchStats], None] = lambda _passed: None,
    ) -> None:
        self._run = run
        self._config = config
        self._callback = callback
        self._jobs: deque[Job[X, Y]] = deque()
        self._not_empty = asyncio.Event()
        self._full_batch = asyncio.Event()
        self._avg_batch_seconds = 0.0
        self._batch_started_at: float | None = None

    def __len__(self) -> int:
        """Return how many items wait."""
        return len(self._jobs)

    @property
    def is_stuck(self) -> bool:
        """Whether the model has been at one batch for longer than anyone waits."""
        began = self._batch_started_at
        return began is not None and time.monotonic() - began > self._config.timeout_seconds

    async def __call__(self, items: Sequence[X]) -> list[Y]:
        """Return the results of all items, in their order.

        Raises:
            Refusal: There is no room in the queue (429), or they waited too long there (503).
        """
        self.require_capacity(len(items))
        loop, now = asyncio.get_running_loop(), time.monotonic()
        jobs = [Job[X, Y](item, loop.create_future(), now) for item in items]
        self._jobs.extend(jobs)
        self._update_events()
        try:
            return [await job.future for job in jobs]
        finally:  # if one fails, or the client left, the rest need not be computed
            for job in jobs:
                if not job.future.cancel() and not job.future.cancelled():
                    job.future.exception()  # taken note of

    def require_capacity(self, num_items: int) -> None:
        """Refuse, with 429, what the queue cannot hold."""
        if len(self._jobs) + num_items > self._config.max_queue_size:
            self._jobs = deque(job for job in self._jobs if not job.future.done())
        if len(self._jobs) + num_items > self._config.max_queue_size:
            passes = len(self._jobs) / self._config.max_batch_size
            raise HTTPError(
                429,
                f"the server is busy: {len(self._jobs)} wait already; try again later",
                retry_after_seconds=max(1, math.ceil(passes * self._avg_batch_seconds)),
            )

    async def run_forever(self) -> None:
        """Serve until cancelled."""
        while True:
            await self._not_empty.wait()
            await self._wait_for_batch()
            batch = self._pop_batch()
            if batch:
                await self._run_batch(batch)

    def _update_events(self) -> None:
        for event, number in ((self._not_empty, 1), (self._full_batch, self._config.max_batch_size)):
            if len(self._jobs) >= number:
                event.set()
            else:
                event.clear()

    async def _wait_for_batch(self) -> None:
        """Wait for a whole batch, as long as the first may be kept waiting."""
        if not self._jobs:
            return
        rest = self._jobs[0].enqueued_at + self._config.max_delay_seconds - time.monotonic()
        if rest > 0 and not self._full_batch.is_set():
            try:
                async with asyncio.timeout(rest):
                    await self._full_batch.wait()
            except TimeoutError:
                pass

    def _pop_batch(self) -> list[Job[X, Y]]:
        batch: list[Job[X, Y]] = []
        now = time.monotonic()
        while self._jobs and len(batch) < self._config.max_batch_size:
            job = self._jobs.popleft()
            if job.future.done():
                continue
            if now - job.enqueued_at > self._config.timeout_seconds:
                job.future.set_exception(
                    HTTPError(503, "the server is too busy; try again later", retry_after_seconds=5)
                )
                continue
            batch.append(job)
        self._update_events()
        return batch

    async def _run_batch(self, batch: Sequence[Job[X, Y]]) -> None:
        began = self._batch_started_at = time.monotonic()
        done = asyncio.ensure_future(self._run([job.item for job in batch]))
        try:
            await asyncio.wait([done])
        finally:
            self._batch_started_at = None
            done.cancel()  # if this is cancelled itself
        error = done.exception()
        if error is not None and len(batch) > 1:
            for job in batch:
                if not job.future.done():
                    await self._run_batch([job])
            return
        seconds = time.monotonic() - began
        self._avg_batch_seconds += 0.2 * (seconds - self._avg_batch_seconds)
        self._callback(BatchStats(len(batch), tuple(began - job.enqueued_at for job in batch), seconds))
        if error is not None:
            if not batch[0].future.done():
                batch[0].future.set_exception(error)
            return
        for number, (job, result) in enumerate(zip(batch, done.result(), strict=True)):
            if number % RESULTS_PER_YIELD == 0:
                await asyncio.sleep(0)
            if not job.future.done():
                job.future.set_result(result)
