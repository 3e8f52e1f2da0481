"""Dynamic batching: combine items of many requests into one model batch."""

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
"""Number of results that are delivered before the event loop gets control again."""
AVERAGE_WEIGHT = 0.2
"""Weight of the newest batch in the moving average of batch durations."""

X = TypeVar("X")
Y = TypeVar("Y")


@dataclass(frozen=True, slots=True)
class BatchStats:
    """Size and timing of one batch."""

    num_items: int
    wait_seconds: tuple[float, ...]
    """Time in the queue, for each item."""
    seconds: float


@dataclass(slots=True, eq=False)
class Job(Generic[X, Y]):
    """A queued item and the future of its result."""

    item: X
    future: "asyncio.Future[Y]"
    enqueued_at: float


class Batcher(Generic[X, Y]):
    """Collect items until a batch is full or the first item has waited long enough, and run a function on them.

    As many batches run at once as there are tasks of `run_forever`. Each returns one result for each item, in order.
    Items of canceled requests are skipped. If the function fails, the items are retried one by one, so that only the
    bad ones fail.
    """

    def __init__(
        self,
        run: Callable[[Sequence[X]], Awaitable[Sequence[Y]]],
        config: BatchingConfig,
        callback: Callable[[BatchStats], None] = lambda _stats: None,
    ) -> None:
        self._run = run
        self._config = config
        self._callback = callback
        self._jobs: deque[Job[X, Y]] = deque()
        self._not_empty = asyncio.Event()
        self._full_batch = asyncio.Event()
        self._next_batch = asyncio.Lock()
        """Held by the task that collects the next batch."""
        self._num_tasks = 0
        self._avg_batch_seconds = 0.0
        self._start_times: list[float] = []
        """When each running batch was started."""

    def __len__(self) -> int:
        """Return how many items wait."""
        return len(self._jobs)

    @property
    def is_stuck(self) -> bool:
        """Whether a running batch has taken longer than the request time-out."""
        oldest = min(self._start_times, default=math.inf)
        return time.monotonic() - oldest > self._config.timeout_seconds

    async def __call__(self, items: Sequence[X]) -> list[Y]:
        """Return the results of all items, in order.

        Raises:
            HTTPError: The queue is full (429), or the items waited too long (503).
        """
        self.require_capacity(len(items))
        loop, now = asyncio.get_running_loop(), time.monotonic()
        jobs = [Job[X, Y](item, loop.create_future(), now) for item in items]
        self._jobs.extend(jobs)
        self._update_events()
        try:
            return [await job.future for job in jobs]
        finally:  # if one item fails, or the client disconnects, the others need not be computed
            for job in jobs:
                if not job.future.cancel() and not job.future.cancelled():
                    job.future.exception()  # mark as retrieved, so that asyncio does not log it

    def require_capacity(self, num_items: int) -> None:
        """Raise HTTPError (429) if the queue cannot hold so many items."""
        if len(self._jobs) + num_items > self._config.max_queue_size:
            self._jobs = deque(job for job in self._jobs if not job.future.done())
        if len(self._jobs) + num_items > self._config.max_queue_size:
            num_batches = len(self._jobs) / self._config.max_batch_size / max(1, self._num_tasks)
            raise HTTPError(
                429,
                f"the server is busy: {len(self._jobs)} items are waiting; try again later",
                retry_after_seconds=max(1, math.ceil(num_batches * self._avg_batch_seconds)),
            )

    async def run_forever(self) -> None:
        """Run batches, one after the other, until canceled."""
        self._num_tasks += 1
        while True:
            async with self._next_batch:
                await self._not_empty.wait()
                await self._wait_for_batch()
                batch = self._pop_batch()
            if batch:
                await self._run_batch(batch)

    def _update_events(self) -> None:
        for event, min_jobs in ((self._not_empty, 1), (self._full_batch, self._config.max_batch_size)):
            if len(self._jobs) >= min_jobs:
                event.set()
            else:
                event.clear()

    async def _wait_for_batch(self) -> None:
        """Wait for a full batch, at most until the first item has waited `max_delay_seconds`."""
        if not self._jobs:
            return
        remaining = self._jobs[0].enqueued_at + self._config.max_delay_seconds - time.monotonic()
        if remaining > 0 and not self._full_batch.is_set():
            try:
                async with asyncio.timeout(remaining):
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
        started_at = time.monotonic()
        self._start_times.append(started_at)
        run_task = asyncio.ensure_future(self._run([job.item for job in batch]))
        try:
            await asyncio.wait([run_task])
        finally:
            self._start_times.remove(started_at)
            run_task.cancel()  # has an effect only if this coroutine is canceled
        error = run_task.exception()
        if error is not None and len(batch) > 1:
            for job in batch:
                if not job.future.done():
                    await self._run_batch([job])
            return
        seconds = time.monotonic() - started_at
        self._avg_batch_seconds += AVERAGE_WEIGHT * (seconds - self._avg_batch_seconds)
        self._callback(BatchStats(len(batch), tuple(started_at - job.enqueued_at for job in batch), seconds))
        if error is not None:
            if not batch[0].future.done():
                batch[0].future.set_exception(error)
            return
        for index, (job, result) in enumerate(zip(batch, run_task.result(), strict=True)):
            if index % RESULTS_PER_YIELD == 0:
                await asyncio.sleep(0)
            if not job.future.done():
                job.future.set_result(result)
