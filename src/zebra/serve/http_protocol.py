"""HTTP/1.1 connections with time-outs, strict framing and early rejection."""

import asyncio
import json
import re
from collections.abc import Collection
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from zebra.serve.concurrency import ConcurrencyLimit
from zebra.serve.errors import BUSY_MESSAGE, error_body
from zebra.serve.plain_request import MAX_HEADER_BYTES, PlainCycle, PlainRequest, parse_plain_request

HEADER_TIMEOUT_SECONDS = 10.0
"""Time for the head of a request to arrive."""
SEND_TIMEOUT_SECONDS = 20.0
MIN_SENT_BYTES = 64 * 2**10
"""Bytes of a response that a client has to read in this time."""
CONTENT_LENGTH_PATTERN = re.compile(rb"\r\ncontent-length: *([0-9]{1,9}) *(?:\r\n|$)", re.IGNORECASE)
UNSUPPORTED_HEADERS_PATTERN = re.compile(rb"\r\n(?:connection|transfer-encoding|expect|upgrade):", re.IGNORECASE)
_OVERLOADED_BODY = json.dumps(error_body(429, BUSY_MESSAGE)).encode()
_OVERLOADED_HEAD = (
    b"HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\nX-Content-Type-Options: nosniff\r\n"
    b"Retry-After: 1\r\nContent-Length: %d\r\n" % len(_OVERLOADED_BODY)
)
ORIGIN_PATTERN = re.compile(rb"\r\norigin:[ \t]*([!-~]+)[ \t]*\r\n", re.IGNORECASE)


class StrictConnection(h11.Connection):
    """A connection that refuses requests with both Content-Length and Transfer-Encoding.

    A proxy that goes by the other header sees another end of the request, so that a second one can hide in its body
    (request smuggling, RFC 9112 §6.1).
    """

    def next_event(self) -> Any:
        """Return the next event; h11.RemoteProtocolError for a refused request."""
        event = super().next_event()
        if isinstance(event, h11.Request) and {b"content-length", b"transfer-encoding"} <= {
            name for name, _ in event.headers
        }:
            raise h11.RemoteProtocolError("both Content-Length and Transfer-Encoding")
        return event


class HTTPProtocol(H11Protocol):
    """HTTP/1.1 with time-outs for request heads and slow readers, and cheap rejection under load.

    A connection whose request head is incomplete after `HEADER_TIMEOUT_SECONDS` is closed; uvicorn's own timer stops at
    the first byte.

    A connection whose client reads less than `MIN_SENT_BYTES` of a response in `SEND_TIMEOUT_SECONDS` is closed. Bytes
    that wait to be sent count for the concurrency limit.

    If the concurrency limit is reached, a complete request is rejected before it is parsed.

    Plain requests (`zebra.serve.plain_request`) are parsed here, all others by h11.
    """

    def __init__(
        self, concurrency_limit: ConcurrencyLimit, origins: Collection[str], *args: Any, **kwargs: Any
    ) -> None:
        """Create the protocol of a connection; `origins` may read the rejections (CORS)."""
        super().__init__(*args, **kwargs)
        self._concurrency_limit = concurrency_limit
        self._origins = origins
        self._header_timer: asyncio.TimerHandle | None = None
        self._send_timer: asyncio.TimerHandle | None = None
        self._num_unsent_bytes = 0
        self._pipelined_data = b""
        """What arrived after a plain request and before the end of its response."""
        self.conn = StrictConnection(h11.SERVER, MAX_HEADER_BYTES)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn narrows it
        """Start the header timer."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)  # pause_writing is called while anything waits to be sent
        self._update_header_timer()

    def data_received(self, data: bytes) -> None:
        """Reject a request at once, or parse it."""
        if isinstance(self.cycle, PlainCycle) and not self.cycle.response_complete:
            self._pipelined_data += data
            self.flow.pause_reading()
            return
        is_idle = self._is_idle()
        if is_idle and self._concurrency_limit.is_full and is_complete_post(data):
            self._concurrency_limit.num_rejected += 1
            self.transport.write(overloaded_response(data, self._origins))
            self._cancel_header_timer()
        elif is_idle and (request := parse_plain_request(data)) is not None:
            self._unset_keepalive_if_required()
            self._start_plain_cycle(request)
        else:
            super().data_received(data)
        self._update_header_timer()

    def on_response_complete(self) -> None:
        """Parse what arrived during the response to a plain request."""
        super().on_response_complete()
        data, self._pipelined_data = self._pipelined_data, b""
        if data and not self.transport.is_closing():
            self.data_received(data)

    def _start_plain_cycle(self, request: PlainRequest) -> None:
        raw_path, _, query_string = request.target.partition(b"?")
        scope: Any = {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": "1.1",
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "method": "POST",
            "root_path": "",
            "path": request.path(),
            "raw_path": raw_path,
            "query_string": query_string,
            "headers": request.headers,
            "state": self.app_state.copy(),
        }
        cycle = PlainCycle(
            scope=scope,
            conn=self.conn,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            on_response=self.on_response_complete,
        )
        cycle.body, cycle.more_body = bytearray(request.body), False
        cycle.message_event.set()
        self.cycle = cycle
        task = self.loop.create_task(cycle.run_asgi(self.app))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timers."""
        super().connection_lost(exc)
        self._cancel_header_timer()
        self._update_unsent_bytes(0)

    def pause_writing(self) -> None:
        """Start to watch the progress of the response."""
        super().pause_writing()
        self._update_unsent_bytes(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """Stop to watch the progress: everything is sent."""
        super().resume_writing()
        self._update_unsent_bytes(0)

    def send_400_response(self, msg: str) -> None:
        """Answer malformed HTTP with an error in the usual JSON shape."""
        body = json.dumps(error_body(400, msg)).encode()
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body))), ("Connection", "close")]
        for event in (h11.Response(status_code=400, headers=headers), h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _update_unsent_bytes(self, num_bytes: int) -> None:
        """Record how many bytes wait to be sent, and restart the timer that checks the progress."""
        self._concurrency_limit.add_unsent_bytes(num_bytes - self._num_unsent_bytes)
        self._num_unsent_bytes = num_bytes
        if self._send_timer is not None:
            self._send_timer.cancel()
        self._send_timer = self.loop.call_later(SEND_TIMEOUT_SECONDS, self._check_progress) if num_bytes else None

    def _check_progress(self) -> None:
        num_bytes = self.transport.get_write_buffer_size()
        if self._num_unsent_bytes - num_bytes < MIN_SENT_BYTES:
            self.transport.abort()  # drops what waits to be sent
        self._update_unsent_bytes(num_bytes)

    def _is_idle(self) -> bool:
        """Return whether the next bytes are the beginning of a request."""
        return (
            (self.cycle is None or self.cycle.response_complete)
            and self.conn.our_state is self.conn.their_state is h11.IDLE
            and not self.conn.trailing_data[0]
        )

    def _update_header_timer(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._cancel_header_timer()
        elif self._header_timer is None:
            self._header_timer = self.loop.call_later(HEADER_TIMEOUT_SECONDS, self.transport.close)

    def _cancel_header_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None


def overloaded_response(request: bytes, origins: Collection[str]) -> bytes:
    """Return the rejection of a request, which scripts of the allowed origins may read."""
    match = ORIGIN_PATTERN.search(request.partition(b"\r\n\r\n")[0] + b"\r\n") if origins else None
    origin = match[1] if match else b""
    cors = b""
    if origin.decode("ascii") in origins or (origin and "*" in origins):
        cors = b"Access-Control-Allow-Origin: %s\r\nAccess-Control-Expose-Headers: Retry-After\r\n" % origin
    return b"%s%s%s\r\n%s" % (_OVERLOADED_HEAD, cors, b"Vary: Origin\r\n" if origins else b"", _OVERLOADED_BODY)


def is_complete_post(data: bytes) -> bool:
    r"""Return whether the bytes are exactly one POST request that leaves the connection open.

    >>> is_complete_post(b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}")
    True
    >>> is_complete_post(b"POST / HTTP/1.1\r\nContent-Le")
    False
    """
    head, _, body = data.partition(b"\r\n\r\n")
    length = CONTENT_LENGTH_PATTERN.search(head)
    return (
        length is not None
        and int(length[1]) == len(body)
        and head.startswith(b"POST ")
        and b" HTTP/1.1\r\n" in head
        and UNSUPPORTED_HEADERS_PATTERN.search(head) is None
    )
