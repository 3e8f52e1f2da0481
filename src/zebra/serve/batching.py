"""Items of many requests in, passes of the model over several of them, each request's own answers out."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from zebra.config.serve import BatchingConfig
from zebra.serve.errors import Refusal

ANSWERS_AT_ONCE = 8
"""Of a pass; between these, requests that arrive have their turn."""

X = TypeVar("X")
Y = TypeVar("Y")


@dataclass(frozen=True, slots=True)
class Passed:
    """What one pass over a batch took."""

    items: int
    waited_seconds: tuple[float, ...]
    """In the queue, each."""
    seconds: float


@dataclass(slots=True, eq=False)
class Job(Generic[X, Y]):
    """An item that waits for its answer."""

    item: X
    answer: "asyncio.Future[Y]"
    arrived: float


class Batcher(Generic[X, Y]):
    """Collects items until there are enough, or the first has waited long enough, and runs a function over them.

    One batch is with the function at a time; it gives one result for each item, in their order. An item whose request
    was cancelled is not computed. If the function fails, the items are tried one by one, so that a bad one fails alone.
    """

    def __init__(
        self,
        run: Callable[[Sequence[X]], Awaitable[Sequence[Y]]],
        config: BatchingConfig,
        watch: Callable[[Passed], None] = lambda _passed: None,
    ) -> None:
        self._run = run
        self._config = config
        self._watch = watch
        self._jobs: deque[Job[X, Y]] = deque()
        self._some = asyncio.Event()
        self._enough = asyncio.Event()
        self._pass_seconds = 0.0
        self._began: float | None = None

    def __len__(self) -> int:
        """Return how many items wait."""
        return len(self._jobs)

    @property
    def stuck(self) -> bool:
        """Whether the model has been at one batch for longer than anyone waits."""
        began = self._began
        return began is not None and time.monotonic() - began > self._config.deadline_seconds

    async def __call__(self, items: Sequence[X]) -> list[Y]:
        """Return the results of all items, in their order.

        Raises:
            Refusal: There is no room in the queue (429), or they waited too long there (503).
        """
        self.require_room(len(items))
        loop, now = asyncio.get_running_loop(), time.monotonic()
        jobs = [Job[X, Y](item, loop.create_future(), now) for item in items]
        self._jobs.extend(jobs)
        self._tell()
        try:
            return [await job.answer for job in jobs]
        finally:  # if one fails, or the client left, the rest need not be computed
            for job in jobs:
                if not job.answer.cancel() and not job.answer.cancelled():
                    job.answer.exception()  # taken note of

    def require_room(self, items: int) -> None:
        """Refuse, with 429, what the queue cannot hold."""
        if len(self._jobs) + items > self._config.queue:
            self._jobs = deque(job for job in self._jobs if not job.answer.done())
        if len(self._jobs) + items > self._config.queue:
            passes = len(self._jobs) / self._config.size
            raise Refusal(
                429,
                f"the server is busy: {len(self._jobs)} wait already; try again later",
                retry_seconds=max(1, math.ceil(passes * self._pass_seconds)),
            )

    async def work(self) -> None:
        """Serve until cancelled."""
        while True:
            await self._some.wait()
            await self._gather()
            batch = self._take()
            if batch:
                await self._answer(batch)

    def _tell(self) -> None:
        for event, number in ((self._some, 1), (self._enough, self._config.size)):
            if len(self._jobs) >= number:
                event.set()
            else:
                event.clear()

    async def _gather(self) -> None:
        """Wait for a whole batch, as long as the first may be kept waiting."""
        if not self._jobs:
            return
        rest = self._jobs[0].arrived + self._config.delay_seconds - time.monotonic()
        if rest > 0 and not self._enough.is_set():
            try:
                async with asyncio.timeout(rest):
                    await self._enough.wait()
            except TimeoutError:
                pass

    def _take(self) -> list[Job[X, Y]]:
        batch: list[Job[X, Y]] = []
        now = time.monotonic()
        while self._jobs and len(batch) < self._config.size:
            job = self._jobs.popleft()
            if job.answer.done():
                continue
            if now - job.arrived > self._config.deadline_seconds:
                job.answer.set_exception(
                    Refusal(503, "the server is too busy; try again later", retry_seconds=5)
                )
                continue
            batch.append(job)
        self._tell()
        return batch

    async def _answer(self, batch: Sequence[Job[X, Y]]) -> None:
        began = self._began = time.monotonic()
        done = asyncio.ensure_future(self._run([job.item for job in batch]))
        try:
            await asyncio.wait([done])
        finally:
            self._began = None
            done.cancel()  # if this is cancelled itself
        error = done.exception()
        if error is not None and len(batch) > 1:
            for job in batch:
                if not job.answer.done():
                    await self._answer([job])
            return
        seconds = time.monotonic() - began
        self._pass_seconds += 0.2 * (seconds - self._pass_seconds)
        self._watch(Passed(len(batch), tuple(began - job.arrived for job in batch), seconds))
        if error is not None:
            if not batch[0].answer.done():
                batch[0].answer.set_exception(error)
            return
        for number, (job, result) in enumerate(zip(batch, done.result(), strict=True)):
            if number % ANSWERS_AT_ONCE == 0:
                await asyncio.sleep(0)
            if not job.answer.done():
                job.answer.set_result(result)
