"""Downloads for callers without an event loop."""

import asyncio
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Empty
from types import TracebackType
from typing import Self

from zebra.config.cores import usable_cores
from zebra.config.fetch import FetchConfig
from zebra.curate.fetch.attempts import AttemptLog
from zebra.curate.fetch.client import HttpClient
from zebra.curate.fetch.image_request import ImageRequester
from zebra.curate.fetch.outage import OutageDetector
from zebra.curate.fetch.outcome import FetchedImage
from zebra.curate.fetch.resolver import HostResolver, Lookup
from zebra.curate.fetch.scheduler import FetchRun, Scheduler
from zebra.curate.fetch.sites import SiteRulesCache
from zebra.data.addresses import is_public
from zebra.errors import ConfigError

CHECK_SECONDS = 5.0
"""How often a waiting caller checks that the thread is alive."""


class Fetcher:
    """Downloads images; a context manager.

    Connections, resolved names and the rules of sites are shared by all calls of `fetch`.
    """

    def __init__(
        self,
        config: FetchConfig,
        *,
        is_allowed: Callable[[str], bool] | None = None,
        lookup: Lookup | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        """Check the config; nothing is started.

        Args:
            config: Limits, contact and opt-outs.
            is_allowed: Whether an IP address may be contacted; by the config by default.
            lookup: Returns the addresses of a host name; the system's resolver by default.
            ssl_context: Decides which certificates are valid; the system's by default.

        Raises:
            ConfigError: Public hosts are allowed and there is no contact.
        """
        if config.contact is None and not config.allow_private and is_allowed is None:
            raise ConfigError(
                "fetch.contact is missing. Give an e-mail address or a web page, so that the owners of the servers can "
                "reach you: --fetch.contact you@example.org"
            )
        self._config = config
        self._is_allowed = is_allowed or _address_filter(config)
        self._lookup = lookup
        self._ssl_context = ssl_context
        self._thread = threading.Thread(target=self._run, name="fetch", daemon=True)
        self._started = threading.Event()
        self._start_error: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event
        self._scheduler: Scheduler

    def __enter__(self) -> Self:
        """Start the thread.

        Raises:
            MissingExtra: A package of the extra `curate` is not installed.
        """
        self._thread.start()
        self._started.wait()
        if self._start_error is not None:
            raise self._start_error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def fetch(self, urls: Iterable[str], folder: Path, *, again: bool = False) -> Iterator[FetchedImage]:
        """Yield the outcome of each distinct URL: first those on record, then others as they finish.

        Args:
            urls: Any text; what is not a usable address has an outcome too.
            folder: Where bytes and outcomes are kept; of this list of URLs only.
            again: Repeat the requests that failed for reasons that may pass.

        Raises:
            DataError: Another run uses the folder.
            DownloadError: Nearly no host could be reached for too long.
            OSError: The disk is full, for example.
        """
        run = FetchRun(AttemptLog(folder))
        try:
            pending = []
            for url in dict.fromkeys(urls):
                outcome = run.log.get(url)
                if outcome is None or (again and outcome.status == "passing"):
                    pending.append(url)
                else:
                    yield outcome
            self._loop.call_soon_threadsafe(self._scheduler.submit, run, pending)
            for _ in pending:
                yield self._wait_for_result(run)
        finally:
            self._cancel(run)

    def _wait_for_result(self, run: FetchRun) -> FetchedImage:
        while True:
            try:
                result = run.results.get(timeout=CHECK_SECONDS)
            except Empty:
                if not self._thread.is_alive():
                    raise RuntimeError("the download thread has ended") from None
                continue
            if isinstance(result, BaseException):
                raise result
            return result

    def _cancel(self, run: FetchRun) -> None:
        """Close the record of a run, in the thread that writes it."""

        async def cancel() -> None:
            self._scheduler.cancel(run)

        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(cancel(), self._loop).result()
        else:
            run.log.close()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # raised in the caller's thread
            self._start_error = error
        finally:
            self._started.set()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        resolver = HostResolver(self._is_allowed, self._lookup)
        initializer = _use_one_thread if self._config.shorter_side else None
        threads = ThreadPoolExecutor(usable_cores(), "resize", initializer)
        client = HttpClient(resolver, contact=self._config.contact, ssl_context=self._ssl_context)
        outage = OutageDetector(self._config.max_outage_seconds, client.is_reachable)
        client.on_response = outage.record_response
        try:
            sites = SiteRulesCache(client, frozenset(self._config.ignore_signals))
            requester = ImageRequester(client, sites, self._config, threads)
            self._scheduler = Scheduler(requester, outage, self._config)
            self._started.set()
            await self._stop.wait()
            await self._scheduler.close()
        finally:
            await client.close()
            resolver.close()
            threads.shutdown(wait=False, cancel_futures=True)


def _address_filter(config: FetchConfig) -> Callable[[str], bool]:
    if not config.allow_private:
        return is_public
    if config.contact is None:
        return lambda address: not is_public(address)
    return lambda _address: True


def _use_one_thread() -> None:
    """Let torch use one thread per image: several images are resized at a time."""
    import torch

    torch.set_num_threads(1)
