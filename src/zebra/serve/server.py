"""Uvicorn server with header time-outs, early rejection under load, and draining."""

import asyncio
import json
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from zebra.serve.concurrency import ConcurrencyLimit
from zebra.serve.errors import BUSY_MESSAGE, error_body

MAX_HEADER_BYTES = 16 * 2**10
HEADER_TIMEOUT_SECONDS = 10.0
"""Time for the head of a request to arrive."""
KEEP_ALIVE_SECONDS = 15
DRAIN_TIMEOUT_SECONDS = 25
"""Time to answer accepted requests after the shutdown signal."""
ACCEPTS_PER_LOOP = 8
"""Connections that are accepted, 0.2 ms each, before open connections are served again."""
LISTEN_BACKLOG = 1024
"""Connections that the kernel queues until they are accepted."""
CONTENT_LENGTH_PATTERN = re.compile(rb"\r\ncontent-length: *([0-9]{1,9}) *(?:\r\n|$)", re.IGNORECASE)
UNSUPPORTED_HEADERS_PATTERN = re.compile(rb"\r\n(?:connection|transfer-encoding|expect|upgrade):", re.IGNORECASE)
_OVERLOADED_BODY = json.dumps(error_body(429, BUSY_MESSAGE)).encode()
OVERLOADED_RESPONSE = (
    b"HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\nX-Content-Type-Options: nosniff\r\n"
    b"Retry-After: 1\r\nContent-Length: %d\r\n\r\n%s" % (len(_OVERLOADED_BODY), _OVERLOADED_BODY)
)
SHUTDOWN_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Server(uvicorn.Server):
    """Uvicorn with limits; `run` returns once every accepted request is answered.

    Uvicorn itself raises the shutdown signal again after draining; this server exits normally.
    """

    def __init__(self, app: FastAPI, on_shutdown: Callable[[], None], concurrency_limit: ConcurrencyLimit) -> None:
        """Create a server for an app.

        Args:
            on_shutdown: Called on the shutdown signal.
            concurrency_limit: Limits the requests in progress; beyond it, requests are rejected.
        """
        super().__init__(
            uvicorn.Config(
                app,
                http=partial(HTTPProtocol, concurrency_limit),  # type: ignore[arg-type]  # uvicorn only calls it
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                backlog=ACCEPTS_PER_LOOP,
                timeout_graceful_shutdown=DRAIN_TIMEOUT_SECONDS,
                h11_max_incomplete_event_size=MAX_HEADER_BYTES,
            )
        )
        self._on_shutdown = on_shutdown

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen. asyncio uses one number for the backlog and for accepts per loop; this sets the backlog apart."""
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(LISTEN_BACKLOG)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle the shutdown signals, and restore the previous handlers without raising the signal again."""
        if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
            yield
            return
        previous_handlers = {number: signal.signal(number, self.handle_exit) for number in SHUTDOWN_SIGNALS}
        try:
            yield
        finally:
            for number, handler in previous_handlers.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain on the first signal, exit at once on the second."""
        self._on_shutdown()
        super().handle_exit(sig, frame)


class HTTPProtocol(H11Protocol):
    """HTTP/1.1 with a time-out for request heads, and cheap rejection under load.

    A connection whose request head is incomplete after `HEADER_TIMEOUT_SECONDS` is closed; uvicorn's own timer stops at
    the first byte.

    If the concurrency limit is reached, a complete request is rejected before it is parsed. Parsing costs half as much
    as answering, so that at twice the capacity the server would do little else.
    """

    def __init__(self, concurrency_limit: ConcurrencyLimit, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._concurrency_limit = concurrency_limit
        self._header_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn narrows it
        """Start the header timer."""
        super().connection_made(transport)
        self._update_header_timer()

    def data_received(self, data: bytes) -> None:
        """Reject a request at once, or parse it."""
        if self._concurrency_limit.is_full and self._is_idle() and is_complete_post(data):
            self._concurrency_limit.num_rejected += 1
            self.transport.write(OVERLOADED_RESPONSE)
            self._cancel_header_timer()
        else:
            super().data_received(data)
        self._update_header_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the header timer."""
        super().connection_lost(exc)
        self._cancel_header_timer()

    def send_400_response(self, msg: str) -> None:
        """Answer malformed HTTP with an error in the usual JSON shape."""
        body = json.dumps(error_body(400, msg)).encode()
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body))), ("Connection", "close")]
        for event in (h11.Response(status_code=400, headers=headers), h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _is_idle(self) -> bool:
        return (self.cycle is None or self.cycle.response_complete) and not self.conn.trailing_data[0]

    def _update_header_timer(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._cancel_header_timer()
        elif self._header_timer is None:
            self._header_timer = self.loop.call_later(HEADER_TIMEOUT_SECONDS, self.transport.close)

    def _cancel_header_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None


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
