"""Circuit breaker: tell an outage of the own network from hosts that are gone."""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from zebra.curate.fetch.urls import HttpUrl
from zebra.errors import DownloadError

NUM_HOSTS = 20
MAX_SHARE_REACHED = 0.1
"""An outage is suspected when at most this share of the last NUM_HOSTS hosts was reached. The number doubles with each
pause after which no host responds, so that many hosts that are gone cost few pauses."""
NUM_KNOWN_HOSTS = 3
"""Hosts reached before that are tried, to confirm it."""
FIRST_PAUSE_SECONDS = 2.0
MAX_PAUSE_SECONDS = 60.0

_LOG = logging.getLogger(__name__)


class OutageDetector:
    """Pauses all requests while nearly no host can be reached."""

    def __init__(self, max_outage_seconds: float, is_reachable: Callable[[HttpUrl], Awaitable[bool]]) -> None:
        """Create a detector that knows no host.

        Args:
            max_outage_seconds: How long to wait before giving up.
            is_reachable: Tries to connect to the host of an address.
        """
        self._max_outage_seconds = max_outage_seconds
        self._is_reachable = is_reachable
        self._reached: OrderedDict[str, bool] = OrderedDict()
        """Recent hosts → whether the last request to it got a response."""
        self._known: OrderedDict[str, HttpUrl] = OrderedDict()
        """Hosts that responded last → an address."""
        self._outage: asyncio.Task[None] | None = None
        self._num_pauses = 0
        """Consecutive pauses without a response in between."""

    @property
    def is_active(self) -> bool:
        """Whether requests pause."""
        return self._outage is not None and not self._outage.done()

    def record_response(self, url: HttpUrl) -> None:
        """Count a host that responds."""
        self._num_pauses = 0
        self._known[url.host] = url
        self._known.move_to_end(url.host)
        if len(self._known) > NUM_KNOWN_HOSTS:
            self._known.popitem(last=False)
        self._record(url.host, is_reached=True)

    def record_failure(self, url: HttpUrl) -> None:
        """Count a host whose first request got no response."""
        self._record(url.host, is_reached=False)
        num_hosts = NUM_HOSTS << self._num_pauses
        is_suspected = len(self._reached) >= num_hosts and sum(self._reached.values()) <= MAX_SHARE_REACHED * num_hosts
        if is_suspected and not self.is_active:
            self._outage = asyncio.ensure_future(self._wait())

    async def wait_until_over(self) -> None:
        """Return when requests may be sent.

        Raises:
            DownloadError: The outage lasts too long.
        """
        if self._outage is not None:
            await asyncio.shield(self._outage)

    def _record(self, host: str, *, is_reached: bool) -> None:
        self._reached[host] = is_reached
        self._reached.move_to_end(host)
        if len(self._reached) > NUM_HOSTS << self._num_pauses:
            self._reached.popitem(last=False)

    async def _wait(self) -> None:
        start = time.monotonic()
        while not any(await asyncio.gather(*map(self._is_reachable, self._known.values()))):
            if time.monotonic() - start >= self._max_outage_seconds:
                raise DownloadError(
                    f"nearly no host can be reached, for {self._max_outage_seconds:g} s. Check the network and its "
                    "name servers, then run the same command again: it continues where it stopped."
                )
            pause = min(FIRST_PAUSE_SECONDS * 2**self._num_pauses, MAX_PAUSE_SECONDS, self._max_outage_seconds)
            _LOG.warning("nearly no host can be reached; requests pause for %.0f s", pause)
            await asyncio.sleep(pause)
            self._num_pauses += 1
            if not self._known:  # nobody to ask: try the next hosts
                break
        self._reached.clear()
