"""HTTP requests to checked addresses, with a time limit and a bounded body.

Failures are FetchFailure with a reason.
"""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, cast

import zebra
from zebra.curate.fetch.body import iter_body
from zebra.curate.fetch.outcome import FetchFailure
from zebra.curate.fetch.resolver import HostResolver
from zebra.curate.fetch.urls import HttpUrl, parse_url
from zebra.errors import MissingExtra

if TYPE_CHECKING:
    from aiohttp import ClientResponse
    from aiohttp.abc import AbstractResolver

AGENT = "zebra-clip"
"""Product token: the name in robots.txt and X-Robots-Tag that addresses zebra."""
MAX_REDIRECTS = 5
REDIRECT_STATUSES = frozenset({301, 302, 303, 307, 308})
PASSING_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504, *range(520, 528), 530})
"""Statuses that may change; 520 and above are Cloudflare's, about the server behind it."""
CONNECT_TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Response:
    """A complete response."""

    status: int
    headers: dict[str, list[str]]
    """Lower-case name → values."""
    body: bytes


class HttpClient:
    """A client without cookies, proxies, or trust in what servers say."""

    def __init__(
        self, resolver: HostResolver, *, contact: str | None, ssl_context: ssl.SSLContext | None = None
    ) -> None:
        """Create a client; inside a running event loop only.

        Args:
            contact: Of whoever runs the download, for the User-Agent field.
            ssl_context: Decides which certificates are valid; the system's by default.

        Raises:
            MissingExtra: aiohttp is not installed.
        """
        try:
            import aiohttp
        except ImportError as error:
            raise MissingExtra("aiohttp", "downloading images", "curate") from error
        self.resolver = resolver
        self.on_response: Callable[[HttpUrl], None] = lambda _url: None
        """Called for every response that arrives."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0,  # the scheduler limits connections
                resolver=cast("AbstractResolver", _CheckedAddresses(resolver)),
                use_dns_cache=False,
                ssl=ssl_context or ssl.create_default_context(),
            ),
            headers={
                "User-Agent": f"{AGENT}/{zebra.__version__}" + (f" (+{contact})" if contact else ""),
                "Accept": "image/*,*/*;q=0.1",
                "Accept-Encoding": "identity",
            },
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_SECONDS),
            auto_decompress=False,
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    @asynccontextmanager
    async def get(
        self, url: HttpUrl, timeout_seconds: float, *, is_last: bool = False
    ) -> "AsyncIterator[ClientResponse]":
        """Send a GET request and yield the response before its body; redirects are not followed.

        Args:
            timeout_seconds: Limit for the whole block.
            is_last: Close the connection afterwards.

        Raises:
            FetchFailure: Within the block too, if reading the body fails.
        """
        import yarl

        with _as_failures():
            await self.resolver.resolve(url.host)  # before the clock starts; the connection uses the same answer
            async with (
                asyncio.timeout(timeout_seconds),
                self._session.get(
                    yarl.URL(str(url), encoded=True),
                    allow_redirects=False,
                    headers={"Connection": "close"} if is_last else None,
                ) as response,
            ):
                self.on_response(url)
                yield response

    async def is_reachable(self, url: HttpUrl) -> bool:
        """Return whether the host can be found and accepts a connection."""
        self.resolver.forget(url.host)
        try:
            addresses = await self.resolver.resolve(url.host)
            async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
                _, writer = await asyncio.open_connection(addresses[0], url.port)
        except (FetchFailure, OSError):  # TimeoutError is an OSError
            return False
        writer.transport.abort()
        return True

    async def get_site_file(self, url: HttpUrl, timeout_seconds: float, max_bytes: int) -> Response:
        """Return a small file of a site, such as robots.txt; redirects are followed, and a longer body is cut.

        Raises:
            FetchFailure: The request failed, or there are too many redirects.
        """
        for _ in range(MAX_REDIRECTS + 1):
            async with self.get(url, timeout_seconds) as response:
                if response.status not in REDIRECT_STATUSES:
                    body = bytearray()
                    async for chunk in iter_body(response, max_bytes=None):
                        body += chunk
                        if len(body) >= max_bytes:
                            break
                    return Response(response.status, header_lists(response), bytes(body[:max_bytes]))
                url = redirect_target(response, url)
        raise FetchFailure("permanent", "too many redirects", str(url)[:200])


def redirect_target(response: "ClientResponse", url: HttpUrl) -> HttpUrl:
    """Return where a response redirects to; FetchFailure if it does not say, or not to a web address."""
    location = response.headers.get("Location")
    if not location:
        raise FetchFailure("permanent", "redirect without a target", f"status {response.status}")
    return parse_url(location, url)


def header_lists(response: "ClientResponse") -> dict[str, list[str]]:
    """Return all headers by lower-case name; a repeated one has several values."""
    headers: dict[str, list[str]] = {}
    for name, value in response.headers.items():
        headers.setdefault(name.lower(), []).append(value)
    return headers


def status_failure(response: "ClientResponse") -> FetchFailure | None:
    """Return the failure that a status means; None for 200 and 203."""
    status = response.status
    if status in {200, 203}:
        return None
    is_passing = status in PASSING_STATUSES
    retry_after = _parse_retry_after(response.headers.get("Retry-After", "")) if is_passing else None
    detail = (response.reason or "")[:80]
    if retry_after is not None:
        detail += f", retry after {retry_after:.0f} s"
    return FetchFailure(
        "passing" if is_passing else "permanent",
        f"HTTP status {status}",
        detail,
        should_retry=is_passing,
        retry_after=retry_after,
    )


class _CheckedAddresses:
    """Adapter of a HostResolver to aiohttp."""

    def __init__(self, resolver: HostResolver) -> None:
        self._resolver = resolver

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[dict[str, Any]]:
        addresses = await self._resolver.resolve(host)
        return [
            {"hostname": host, "host": address, "port": port, "family": family, "proto": 0, "flags": 0}
            for address in addresses
        ]

    async def close(self) -> None:
        pass


def _parse_retry_after(value: str) -> float | None:
    """Return the seconds that a Retry-After field, a number or a date, asks to wait."""
    if value.strip().isdecimal():
        return float(value[:9])
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


@contextmanager
def _as_failures() -> Iterator[None]:
    """Turn the errors of a request into FetchFailure."""
    import aiohttp

    try:
        yield
    except (aiohttp.ServerTimeoutError, TimeoutError) as error:
        is_connecting = "connect" in type(error).__name__.lower() or "Connection timeout" in str(error)
        raise FetchFailure(
            "passing",
            "connection timed out" if is_connecting else "time limit exceeded",
            str(error),
            should_retry=is_connecting,
            blames_host=True,
        ) from error
    except aiohttp.ClientConnectorCertificateError as error:
        raise FetchFailure("permanent", "invalid certificate", str(error.certificate_error)[:200]) from error
    except aiohttp.ClientPayloadError as error:
        raise FetchFailure("passing", "truncated body", str(error)[:200], should_retry=True) from error
    except aiohttp.ClientConnectionError as error:  # refused, reset, TLS, closed before the response
        raise FetchFailure(
            "passing", "connection failed", str(error)[:200], should_retry=True, blames_host=True
        ) from error
    except (aiohttp.ClientError, ValueError) as error:  # not HTTP; header fields that are too long or malformed
        raise FetchFailure("permanent", "invalid HTTP response", str(error)[:200]) from error
