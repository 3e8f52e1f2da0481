"""An app in; a process that listens, drains on SIGTERM or Ctrl-C, and does not wait for slow heads."""

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

from zebra.serve import errors
from zebra.serve.middleware.body_limit import BUSY_MESSAGE, ConcurrencyLimit

MAX_HEADER_BYTES = 16 * 2**10
HEADER_TIMEOUT_SECONDS = 10.0
"""For the head of a request to arrive."""
DRAIN_TIMEOUT_SECONDS = 25
"""What is accepted has so long to be answered, once the server is told to stop."""
ACCEPTS_PER_LOOP = 8
"""New connections, 0.2 ms each, before those that are open have their turn."""
LISTEN_BACKLOG = 1024
"""New connections that the system holds until they are accepted."""
CONTENT_LENGTH_PATTERN = re.compile(rb"\r\ncontent-length: *([0-9]{1,9}) *(?:\r\n|$)", re.IGNORECASE)
UNSUPPORTED_HEADERS_PATTERN = re.compile(
    rb"\r\n(?:connection|transfer-encoding|expect|upgrade):", re.IGNORECASE
)
_OVERLOADED_BODY = json.dumps(errors.error_body(429, BUSY_MESSAGE)).encode()
OVERLOADED_RESPONSE = (
    b"HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\nX-Content-Type-Options: nosniff\r\n"
    b"Retry-After: 1\r\nContent-Length: %d\r\n\r\n%s" % (len(_OVERLOADED_BODY), _OVERLOADED_BODY)
)
SHUTDOWN_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Server(uvicorn.Server):
    """Uvicorn with limits; `run` returns once everything that was accepted is answered.

    Left to itself, uvicorn raises the signal again when it is done; a server that was told to stop and did is well.
    """

    def __init__(
        self, app: FastAPI, on_shutdown: Callable[[], None], concurrency_limit: ConcurrencyLimit
    ) -> None:
        """Prepare to serve an app.

        Args:
            on_shutdown: Is called when the server is told to stop.
            concurrency_limit: For requests; once they are taken, more are turned away.
        """
        super().__init__(
            uvicorn.Config(
                app,
                http=partial(HTTPProtocol, concurrency_limit),  # type: ignore[arg-type]  # uvicorn only ever calls it
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=15,
                backlog=ACCEPTS_PER_LOOP,
                timeout_graceful_shutdown=DRAIN_TIMEOUT_SECONDS,
                h11_max_incomplete_event_size=MAX_HEADER_BYTES,
            )
        )
        self._on_shutdown = on_shutdown

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen. To asyncio, what may wait and what is accepted at once is one number; here it is two."""
        await super().startup(sockets)
        for door in sockets or ():
            door.listen(LISTEN_BACKLOG)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Drain when told to stop, and leave it at that."""
        if threading.current_thread() is not threading.main_thread():  # no other can listen to signals
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in SHUTDOWN_SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop, the second time at once."""
        self._on_shutdown()
        super().handle_exit(sig, frame)


class HTTPProtocol(H11Protocol):
    """HTTP with less patience.

    A connection whose request's head is too long in coming is closed; uvicorn's own timer stops at the first byte.

    When all places are taken, a request that has arrived whole is turned away unread: taking it apart only to refuse it
    costs half of answering it, and at twice the load the server would do little else.
    """

    def __init__(self, concurrency_limit: ConcurrencyLimit, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._concurrency_limit = concurrency_limit
        self._header_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn narrows it
        """Begin to wait for a head."""
        super().connection_made(transport)
        self._update_header_timer()

    def data_received(self, data: bytes) -> None:
        """Turn a request away, or hand it on."""
        if self._concurrency_limit.is_full and self._is_idle() and is_complete_post(data):
            self._concurrency_limit.num_rejected += 1
            self.transport.write(OVERLOADED_RESPONSE)
            self._cancel_header_timer()
        else:
            super().data_received(data)
        self._update_header_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        super().connection_lost(exc)
        self._cancel_header_timer()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP, in the shape of all errors."""
        body = json.dumps(errors.error_body(400, msg)).encode()
        head = [
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(body))),
            ("Connection", "close"),
        ]
        for event in (h11.Response(status_code=400, headers=head), h11.Data(data=body), h11.EndOfMessage()):
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
    r"""Say whether some bytes are one simple POST, from its first byte to its last, that leaves the connection open.

    >>> is_whole(b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"), is_whole(b"POST / HTTP/1.1\r\nContent-Le")
    (True, False)
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
