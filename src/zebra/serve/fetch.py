"""An address on the web in, the bytes there out, and no way to make the server knock at another door.

Only https, to hosts that are listed by name; the name is resolved once, every address it has must be a public one, and
the connection goes to that address; nothing is followed, bytes and time are bounded.
"""

import asyncio
import re
import socket
import ssl
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

import h11

from zebra.serve.errors import HTTPError

URL_PATTERN = re.compile(r"https://([a-z0-9.-]{1,253})(?::([0-9]{1,5}))?(/[!-\"$-\[\]-~]*)?", re.IGNORECASE)
"""The only reading of an address there is: no user, no brackets, no backslash, no fragment."""
NAT64_NETWORK = IPv6Network("64:ff9b::/96")
"""NAT64: the last four bytes are the address that is meant."""
LOCAL_NAT64_NETWORK = IPv6Network("64:ff9b:1::/48")
FETCH_ERROR = "this picture cannot be fetched from its url; send its bytes as data"
FETCH_TIMEOUT_SECONDS = 10.0
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
    """Return what is at an address.

    Args:
        allowed_hosts: Names, or name:port, that may be asked.
        max_bytes: Bytes; more are refused.
        resolve: Gives the addresses of a name.
        is_allowed: Says whether an address may be connected to; only public ones by default.

    Raises:
        Refusal: With one message for all reasons, so that the answer tells nothing about the network here.
    """
    try:
        async with asyncio.timeout(timeout_seconds):
            host, port, path = _parse_url(url, allowed_hosts)
            addresses = await (resolve or _resolve_host)(host, port)
            if not addresses or not all(map(is_allowed or is_public, addresses)):
                raise HTTPError(400, FETCH_ERROR)
            return await _get(
                addresses[0], host, port, path, max_bytes, ssl_context or ssl.create_default_context()
            )
    except (OSError, TimeoutError, h11.ProtocolError, UnicodeError) as error:  # ssl's errors are OSErrors
        raise HTTPError(400, FETCH_ERROR) from error


def is_public(address: str) -> bool:
    """Say whether an address is one of the open internet, in whatever notation it hides.

    >>> is_public("93.184.215.14"), is_public("::ffff:127.0.0.1"), is_public("64:ff9b::a00:1")
    (True, False, False)
    """
    try:
        meant: IPv4Address | IPv6Address = ip_address(address)
    except ValueError:
        return False
    if isinstance(meant, IPv6Address):
        inner = meant.ipv4_mapped or meant.sixtofour
        if meant in NAT64_NETWORK:
            inner = IPv4Address(meant.packed[-4:])
        if inner is not None:
            return is_public(str(inner))
        if meant.teredo is not None or meant in LOCAL_NAT64_NETWORK or meant.is_site_local:
            return False
    return meant.is_global and not meant.is_multicast and not meant.is_reserved


def _parse_url(url: str, allowed_hosts: frozenset[str]) -> tuple[str, int, str]:
    """Take an address apart; Refusal if it is not exactly of the one form, or its host is not listed."""
    match = URL_PATTERN.fullmatch(url)
    if match is None:
        raise HTTPError(400, FETCH_ERROR)
    host, port = match[1].lower(), int(match[2] or 443)
    if (host if port == 443 else f"{host}:{port}") not in allowed_hosts:
        raise HTTPError(400, FETCH_ERROR)
    return host, port, match[3] or "/"


async def _resolve_host(host: str, port: int) -> list[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


async def _get(
    address: str, host: str, port: int, path: str, max_bytes: int, ssl_context: ssl.SSLContext
) -> bytes:
    """Ask one address for a path, as the host whose certificate it must have."""
    reader, writer = await asyncio.open_connection(address, port, ssl=ssl_context, server_hostname=host)
    try:
        client = h11.Connection(h11.CLIENT)
        head = [
            ("Host", host if port == 443 else f"{host}:{port}"),
            ("Accept", "image/*"),
            ("Connection", "close"),
        ]
        writer.write(client.send(h11.Request(method="GET", target=path, headers=head)) or b"")
        writer.write(client.send(h11.EndOfMessage()) or b"")
        await writer.drain()
        body = bytearray()
        while True:
            event = client.next_event()
            if event is h11.NEED_DATA:
                client.receive_data(await reader.read(65_536))
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
        writer.transport.abort()  # nothing more is of interest, not even a farewell
