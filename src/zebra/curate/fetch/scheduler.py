"""The order of requests: limits per host, retries, pauses that servers ask for.

Every URL is a job in the queue of its host. A connection takes jobs of one host until its queue is empty. A job that is
redirected moves to the queue of the other host, and one that is tried again returns to its queue after a pause.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from queue import SimpleQueue

from zebra.config.fetch import FetchConfig
from zebra.curate.fetch.attempts import AttemptLog
from zebra.curate.fetch.client import MAX_REDIRECTS
from zebra.curate.fetch.image_request import ImageRequester
from zebra.curate.fetch.images import ImageBytes
from zebra.curate.fetch.outage import OutageDetector
from zebra.curate.fetch.outcome import FetchedImage, FetchFailure
from zebra.curate.fetch.urls import HttpUrl, parse_url
from zebra.images.formats import media_type

FIRST_BACKOFF_SECONDS = 1.0
"""Pause before the second try; it doubles each time."""
MAX_RETRY_AFTER_SECONDS = 60.0
"""A server that asks to wait longer is not waited for; its other images get the same outcome."""
MAX_HOST_FAILURES = 10
"""Consecutive failures to connect or time-outs after which a host is not asked for a while."""
CLOSED_SECONDS = 300.0
"""How long it is not asked, unless it says how long."""


@dataclass(slots=True, eq=False)
class FetchRun:
    """One list of URLs, its record and the results that the caller has not taken yet."""

    log: AttemptLog
    results: "SimpleQueue[FetchedImage | BaseException]" = field(default_factory=SimpleQueue)
    is_cancelled: bool = False


@dataclass(slots=True, eq=False)
class _Job:
    run: FetchRun
    url: str
    target: HttpUrl
    num_tries: int = 0
    num_redirects: int = 0


@dataclass(slots=True, eq=False)
class _Host:
    name: str
    queue: deque[_Job] = field(default_factory=deque)
    num_active: int = 0
    paused_until: float = 0.0
    num_failures: int = 0
    """Consecutive failures of the connection."""
    closed_by: FetchFailure | None = None
    """Why it is not asked; its other URLs get the same outcome."""
    closed_until: float = 0.0

    def close(self, failure: FetchFailure, seconds: float) -> None:
        """Do not ask the host for some time."""
        self.closed_by = failure.with_traceback(None)  # which would keep bodies in memory
        self.closed_until = time.monotonic() + seconds

    def reopen_if_due(self) -> None:
        """Ask a closed host again after its time; one more failure closes it."""
        if self.closed_by is not None and time.monotonic() >= self.closed_until:
            self.closed_by, self.num_failures = None, MAX_HOST_FAILURES - 1


class Scheduler:
    """Runs the jobs of all runs; used in one event loop only."""

    def __init__(self, requester: ImageRequester, outage: OutageDetector, config: FetchConfig) -> None:
        self._requester = requester
        self._outage = outage
        self._config = config
        self._hosts: dict[str, _Host] = {}
        self._ready: deque[_Host] = deque()
        """Hosts with jobs; a host is here once for each connection that it may still get."""
        self._slots: set[asyncio.Task[None]] = set()
        self._runs: set[FetchRun] = set()

    def submit(self, run: FetchRun, urls: Iterable[str]) -> None:
        """Start the downloads of a run; each URL puts one result into its queue."""
        self._runs.add(run)
        jobs: list[_Job] = []
        for url in urls:
            try:
                jobs.append(_Job(run, url, parse_url(url)))
            except FetchFailure as failure:
                self._finish_failed(run, url, failure, num_tries=0, target=None)
        counts = Counter(job.target.host for job in jobs)
        for job in sorted(jobs, key=lambda job: -counts[job.target.host]):  # hosts with most jobs take longest
            self._enqueue(job)
        self._fill_slots()

    def cancel(self, run: FetchRun) -> None:
        """Drop the remaining jobs of a run and close its record."""
        run.is_cancelled = True
        self._runs.discard(run)
        run.log.close()

    async def close(self) -> None:
        """Cancel all requests."""
        for slot in self._slots:
            slot.cancel()
        await asyncio.gather(*self._slots, return_exceptions=True)

    def _enqueue(self, job: _Job) -> None:
        host = self._hosts.setdefault(job.target.host, _Host(job.target.host))
        host.queue.append(job)
        self._ready.append(host)

    def _fill_slots(self) -> None:
        while self._ready and len(self._slots) < self._config.max_connections:
            host = self._ready.popleft()
            if host.queue and host.num_active < self._config.max_connections_per_host:
                host.num_active += 1
                slot = asyncio.ensure_future(self._run_slot(host))
                self._slots.add(slot)
                slot.add_done_callback(partial(self._end_slot, host))

    async def _run_slot(self, host: _Host) -> None:
        """Request the images of a host one after another."""
        while host.queue:
            await self._outage.wait_until_over()
            pause = host.paused_until - time.monotonic()
            if pause > 0 and host.closed_by is None:
                asyncio.get_running_loop().call_later(pause, self._resume, host)
                return
            if host.queue:  # another connection may have taken the last job
                await self._request(host.queue.popleft(), host)

    def _resume(self, host: _Host) -> None:
        self._ready.extend([host] * self._config.max_connections_per_host)
        self._fill_slots()

    def _end_slot(self, host: _Host, slot: asyncio.Task[None]) -> None:
        self._slots.discard(slot)
        host.num_active -= 1
        if slot.cancelled():
            return
        if (error := slot.exception()) is not None:  # a full disk, an outage, or a mistake in the program
            for run in self._runs:
                run.results.put(error)
            return
        is_idle = not host.queue and not host.num_active and not host.num_failures and not host.paused_until
        if is_idle and host.closed_by is None:
            self._hosts.pop(host.name, None)
        if host.queue and host.paused_until <= time.monotonic():  # a job that came while the slot ended
            self._ready.append(host)
        self._fill_slots()

    async def _request(self, job: _Job, host: _Host) -> None:
        if job.run.is_cancelled:
            return
        host.reopen_if_due()
        if host.closed_by is not None:
            self._finish_failed(job.run, job.url, host.closed_by, num_tries=job.num_tries, target=job.target)
            return
        job.num_tries += 1
        try:
            result = await self._requester.request(job.target, is_last=not host.queue)
        except FetchFailure as failure:
            self._handle_failure(job, host, failure)
            return
        host.num_failures = 0
        if isinstance(result, HttpUrl):
            self._redirect(job, result)
        else:
            self._finish(job, result)

    def _redirect(self, job: _Job, target: HttpUrl) -> None:
        job.num_redirects += 1
        job.num_tries -= 1
        if job.num_redirects > MAX_REDIRECTS:
            failure = FetchFailure("permanent", "too many redirects", f"the last one to {str(target)[:200]}")
            self._finish_failed(job.run, job.url, failure, num_tries=1, target=target)
            return
        job.target = target
        self._enqueue(job)
        self._fill_slots()

    def _handle_failure(self, job: _Job, host: _Host, failure: FetchFailure) -> None:
        if failure.blames_host:
            if job.num_tries == 1:
                self._outage.record_failure(job.target)
            if self._outage.is_active:  # not the host's fault: try again as if nothing had happened
                job.num_tries -= 1
                self._retry_later(job, 0.0)
                return
            host.num_failures += 1
            if host.num_failures >= MAX_HOST_FAILURES:
                host.close(failure, CLOSED_SECONDS)
        else:
            host.num_failures = 0
        pause = FIRST_BACKOFF_SECONDS * 2 ** (job.num_tries - 1)
        if failure.retry_after is not None:
            pause = failure.retry_after
            if pause > MAX_RETRY_AFTER_SECONDS:
                host.close(failure, pause)
            else:
                host.paused_until = max(host.paused_until, time.monotonic() + pause)
        if failure.should_retry and job.num_tries < self._config.max_tries and host.closed_by is None:
            self._retry_later(job, pause)
        else:
            self._finish_failed(job.run, job.url, failure, num_tries=job.num_tries, target=job.target)

    def _retry_later(self, job: _Job, pause: float) -> None:
        def retry() -> None:
            self._enqueue(job)
            self._fill_slots()

        asyncio.get_running_loop().call_later(pause, retry)

    def _finish(self, job: _Job, image: ImageBytes) -> None:
        outcome = FetchedImage(
            url=job.url,
            status="kept",
            time=int(time.time()),
            num_tries=job.num_tries,
            final_url=str(job.target) if job.num_redirects else None,
            num_bytes=len(image.data),
            sha256=image.sha256,
            source_sha256=image.source_sha256,
            media_type=media_type(image.data),
        )
        if not job.run.is_cancelled:
            job.run.results.put(job.run.log.add(outcome, image.data))

    def _finish_failed(
        self, run: FetchRun, url: str, failure: FetchFailure, *, num_tries: int, target: HttpUrl | None
    ) -> None:
        outcome = FetchedImage(
            url=url,
            status=failure.status,
            reason=failure.reason,
            detail=failure.detail,
            time=int(time.time()),
            num_tries=num_tries,
            final_url=str(target) if target is not None and str(target) != url else None,
        )
        if not run.is_cancelled:
            run.results.put(run.log.add(outcome))
