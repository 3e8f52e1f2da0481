"""Resolve host names to checked public addresses, with a cache."""

import asyncio
import socket
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from zebra.curate.fetch.outcome import FetchFailure, failed_future

NUM_THREADS = 32
TIMEOUT_SECONDS = 15.0
MAX_HOSTS = 50_000
LIFETIME_SECONDS = 600.0
FAILURE_LIFETIME_SECONDS = 5.0
"""How long an answer, or a failure, is reused."""
_UNKNOWN_HOST = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}

Lookup = Callable[[str], Awaitable[list[str]]]
"""Returns the addresses of a host name; raises socket.gaierror."""


@dataclass(frozen=True, slots=True)
class _Answer:
    addresses: asyncio.Future[list[str]]
    expires: float


class HostResolver:
    """A resolver that refuses hosts with an address that may not be contacted.

    An answer is used for ten minutes. A later answer is checked in the same way, so a name whose answer changes to a
    private address is refused too (DNS rebinding).
    """

    def __init__(self, is_allowed: Callable[[str], bool], lookup: Lookup | None = None) -> None:
        """Create a resolver with an empty cache.

        Args:
            is_allowed: Whether an IP address may be contacted.
            lookup: Returns the addresses of a name; the system's resolver by default.
        """
        self._is_allowed = is_allowed
        self._lookup = lookup or self._look_up
        self._threads = ThreadPoolExecutor(NUM_THREADS, "dns")
        self._answers: OrderedDict[str, _Answer] = OrderedDict()

    async def resolve(self, host: str) -> list[str]:
        """Return the addresses of a host name or IP address.

        Raises:
            FetchFailure: The name is unknown, the lookup failed, or an address may not be contacted.
        """
        answer = self._answers.get(host)
        if answer is None or answer.expires < time.monotonic():
            future = asyncio.ensure_future(self._resolve(host))
            answer = self._answers[host] = _Answer(future, time.monotonic() + LIFETIME_SECONDS)
            future.add_done_callback(lambda done: self._shorten(host, done))
            if len(self._answers) > MAX_HOSTS:
                self._answers.popitem(last=False)
        return await asyncio.shield(answer.addresses)

    def forget(self, host: str) -> None:
        """Look a name up anew the next time."""
        self._answers.pop(host, None)

    def close(self) -> None:
        """Stop the threads, without waiting for lookups."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _resolve(self, host: str) -> list[str]:
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                addresses = [host] if _is_address(host) else await self._lookup(host)
        except TimeoutError as error:
            raise FetchFailure(
                "passing", "host lookup failed", "time-out", should_retry=True, blames_host=True
            ) from error
        except OSError as error:
            if error.errno in _UNKNOWN_HOST:
                raise FetchFailure("permanent", "unknown host", host, should_retry=True, blames_host=True) from error
            raise FetchFailure(
                "passing", "host lookup failed", str(error), should_retry=True, blames_host=True
            ) from error
        except UnicodeError as error:  # a label that is too long or empty
            raise FetchFailure("permanent", "malformed address", f"host {host[:80]!r}") from error
        refused = [address for address in addresses if not self._is_allowed(address)]
        if refused or not addresses:
            raise FetchFailure("permanent", "address is not public", f"{host} is {', '.join(refused) or 'nowhere'}")
        return addresses

    def _shorten(self, host: str, done: asyncio.Future[list[str]]) -> None:
        """Reuse a failure for a short time only."""
        if not done.cancelled() and isinstance(failure := done.exception(), FetchFailure):
            self._answers[host] = _Answer(failed_future(failure), time.monotonic() + FAILURE_LIFETIME_SECONDS)

    async def _look_up(self, host: str) -> list[str]:
        loop = asyncio.get_running_loop()
        rows = await loop.run_in_executor(self._threads, lambda: socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM))
        return list(dict.fromkeys(str(row[4][0]) for row in rows))


def _is_address(host: str) -> bool:
    """Return whether a normalized host is an IP address (`zebra.curate.fetch.urls`)."""
    return ":" in host or host.rpartition(".")[2].isdigit()
