"""Fetch an image from an allowed host without exposing the local network (SSRF).

Only https to listed host names. The name is resolved once, every address must be public, and the connection goes to the
checked address. Redirects are not followed; size and time are limited.
"""

import asyncio
import re
import socket
import ssl
from collections.abc import Awaitable, Callable

import h11

from zebra.data.addresses import is_public
from zebra.serve.errors import HTTPError

URL_PATTERN = re.compile(r"https://([a-z0-9.-]{1,253})(?::([0-9]{1,5}))?(/[!-\"$-\[\]-~]*)?", re.IGNORECASE)
"""The only accepted URL form: no user, no brackets, no backslash, no fragment."""
FETCH_ERROR = "cannot fetch the image from its url; send its bytes as data"
FETCH_TIMEOUT_SECONDS = 10.0
READ_BYTES = 65_536
Resolver = Callable[[str, int], Awaitable[list[str]]]


async def fetch_url(
    url: str,
    allowed_hosts: frozenset[str],
    *,
    max_bytes: int,
    resolve: Resolver | None = None,
    is_allowed: Callable[[str], bool] | None = None,
    ssl_context: ssl.SSLContext | None = None,
    timeout_seconds: float = FETCH_TIMEOUT_SECONDS,
) -> bytes:
    """Return the response body of a GET request.

    Args:
        allowed_hosts: Names, or name:port, of the hosts that may be contacted.
        max_bytes: Maximum size of the body.
        resolve: Returns the addresses of a host; the system's resolver by default.
        is_allowed: Whether an address may be contacted; `is_public` by default.

    Raises:
        HTTPError: The URL is not allowed or the request failed (400). The message is the same for every reason, so
            that it reveals nothing about the local network.
    """
    try:
        async with asyncio.timeout(timeout_seconds):
            host, port, path = _parse_url(url, allowed_hosts)
            addresses = await (resolve or _resolve_host)(host, port)
            if not addresses or not all(map(is_allowed or is_public, addresses)):
                raise HTTPError(400, FETCH_ERROR)
            return await _get(addresses[0], host, port, path, max_bytes, ssl_context or ssl.create_default_context())
    except (OSError, TimeoutError, h11.ProtocolError, UnicodeError) as error:  # ssl errors are OSErrors
        raise HTTPError(400, FETCH_ERROR) from error


def _parse_url(url: str, allowed_hosts: frozenset[str]) -> tuple[str, int, str]:
    """Return host, port and path; HTTPError if the URL has another form or its host is not listed."""
    match = URL_PATTERN.fullmatch(url)
    if match is None:
        raise HTTPError(400, FETCH_ERROR)
    host, port = match[1].lower(), int(match[2] or 443)
    if (host if port == 443 else f"{host}:{port}") not in allowed_hosts:
        raise HTTPError(400, FETCH_ERROR)
    return host, port, match[3] or "/"


async def _resolve_host(host: str, port: int) -> list[str]:
    results = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in results]


async def _get(address: str, host: str, port: int, path: str, max_bytes: int, ssl_context: ssl.SSLContext) -> bytes:
    """Send a GET request to an address; the certificate must be the host's."""
    reader, writer = await asyncio.open_connection(address, port, ssl=ssl_context, server_hostname=host)
    try:
        connection = h11.Connection(h11.CLIENT)
        headers = [("Host", host if port == 443 else f"{host}:{port}"), ("Accept", "image/*"), ("Connection", "close")]
        writer.write(connection.send(h11.Request(method="GET", target=path, headers=headers)) or b"")
        writer.write(connection.send(h11.EndOfMessage()) or b"")
        await writer.drain()
        body = bytearray()
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await reader.read(READ_BYTES))
            elif isinstance(event, h11.Response):
                if event.status_code != 200:
                    raise HTTPError(400, FETCH_ERROR)
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > max_bytes:
                    raise HTTPError(400, FETCH_ERROR)
            elif isinstance(event, h11.EndOfMessage):
                return bytes(body)
    finally:
        writer.transport.abort()  # without the TLS closing handshake, which the host could delay
