"""Common POST requests: parsed and answered without h11.

h11 checks each part of a request and of its response in Python, which takes as long as all the rest of a short request.
A request that arrives in one piece, whose head is plain, needs few checks. Everything else is left to h11.
"""

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, RequestResponseCycle

MAX_HEADER_BYTES = 16 * 2**10
REQUEST_LINE_PATTERN = re.compile(rb"POST (/[!-~]*) HTTP/1\.1")
HEADER_PATTERN = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([!-~](?:[ -~\t]*[!-~])?)[ \t]*")
"""A name (RFC 9110 §5.6.2) and a value of visible ASCII characters. h11 takes more."""
LENGTH_PATTERN = re.compile(rb"0|[1-9][0-9]{0,8}")
CHUNKED = (b"transfer-encoding", b"chunked")
OTHER_HEADERS = (b"transfer-encoding", b"expect", b"upgrade", b"trailer")
"""Headers that change how the request or its body is read."""


@dataclass(frozen=True, slots=True)
class PlainRequest:
    """A complete POST request with a Content-Length, on a connection that stays open."""

    target: bytes
    headers: list[tuple[bytes, bytes]]
    """Names in lower case."""
    body: bytes

    def path(self) -> str:
        """Return the decoded path."""
        return unquote(self.target.partition(b"?")[0].decode("ascii"))


def parse_plain_request(data: bytes) -> PlainRequest | None:
    r"""Return the request that the bytes are; None if they are not exactly one, or if it is not plain.

    >>> parse_plain_request(b"POST /a HTTP/1.1\r\nHost: b\r\nContent-Length: 2\r\n\r\n{}").body
    b'{}'
    >>> parse_plain_request(b"POST /a HTTP/1.1\r\nHost: b\r\nContent-Length: 3\r\n\r\n{}")
    """
    head, separator, body = data.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    request_line = REQUEST_LINE_PATTERN.fullmatch(first)
    if not separator or request_line is None or len(head) > MAX_HEADER_BYTES:
        return None
    headers: list[tuple[bytes, bytes]] = []
    values: dict[bytes, bytes] = {}
    for line in lines:
        match = HEADER_PATTERN.fullmatch(line)
        if match is None:
            return None
        name, value = match[1].lower(), match[2]
        if name in OTHER_HEADERS or (name in values and name in (b"host", b"content-length", b"connection")):
            return None
        values[name] = value
        headers.append((name, value))
    length = values.get(b"content-length", b"")
    if (
        b"host" not in values
        or values.get(b"connection", b"keep-alive").lower() != b"keep-alive"
        or LENGTH_PATTERN.fullmatch(length) is None
        or int(length) != len(body)
    ):
        return None
    return PlainRequest(request_line[1], headers, body)


class PlainCycle(RequestResponseCycle):
    """Uvicorn's cycle of a plain request. It writes head and body of a short response at once."""

    _head: bytes | None = None
    _is_chunked = False
    _num_missing_bytes = 0
    """Bytes of the body that the head announces and that were not sent yet."""

    async def send(self, message: Any) -> None:
        """Send a part of the response."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if self.response_complete:
            raise RuntimeError(f"{message['type']} after the end of the response")
        if not self.response_started:
            self.response_started = True
            self._start(message)
            return
        head, self._head = self._head or b"", None
        body = message.get("body", b"")
        self._num_missing_bytes -= len(body)
        self.response_complete = not message.get("more_body", False)
        if self._is_chunked:
            chunk = b"%x\r\n%s\r\n" % (len(body), body) if body else b""
            body = chunk + b"0\r\n\r\n" if self.response_complete else chunk
        if head or body:
            self.transport.write(head + body)
        if self.response_complete:
            self.message_event.set()
            if not self.keep_alive or (self._num_missing_bytes and not self._is_chunked):
                self.transport.close()
            self.on_response()

    def _start(self, message: Any) -> None:
        """Encode the head of the response; RuntimeError if a header holds a line break, which could forge another."""
        headers = [*self.default_headers, *message.get("headers", ())]
        values = {name.lower(): value for name, value in headers}
        self._is_chunked = b"content-length" not in values and message["status"] not in (204, 304)
        self._num_missing_bytes = int(values.get(b"content-length", 0))
        self.keep_alive = self.keep_alive and values.get(b"connection", b"").lower() != b"close"
        lines = [
            b"HTTP/1.1 %d %s" % (message["status"], STATUS_PHRASES[message["status"]]),
            *(b"%s: %s" % header for header in [*headers, *([CHUNKED] if self._is_chunked else [])]),
        ]
        self._head = b"\r\n".join(lines) + b"\r\n\r\n"
        if not self._head.count(b"\n") == self._head.count(b"\r") == len(lines) + 1:
            raise RuntimeError("a response header holds a line break")
