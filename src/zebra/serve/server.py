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
from zebra.serve.middleware.body_limit import BUSY, Places

HEAD_BYTES = 16 * 2**10
HEAD_SECONDS = 10.0
"""For the head of a request to arrive."""
DRAIN_SECONDS = 25
"""What is accepted has so long to be answered, once the server is told to stop."""
ACCEPTED_AT_ONCE = 8
"""New connections, 0.2 ms each, before those that are open have their turn."""
WAITING = 1024
"""New connections that the system holds until they are accepted."""
LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]{1,9}) *(?:\r\n|$)", re.IGNORECASE)
UNUSUAL = re.compile(rb"\r\n(?:connection|transfer-encoding|expect|upgrade):", re.IGNORECASE)
_BODY = json.dumps(errors.body(429, BUSY)).encode()
TURNED_AWAY = (
    b"HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\nX-Content-Type-Options: nosniff\r\n"
    b"Retry-After: 1\r\nContent-Length: %d\r\n\r\n%s" % (len(_BODY), _BODY)
)
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Server(uvicorn.Server):
    """Uvicorn with limits; `run` returns once everything that was accepted is answered.

    Left to itself, uvicorn raises the signal again when it is done; a server that was told to stop and did is well.
    """

    def __init__(self, app: FastAPI, drain: Callable[[], None], places: Places) -> None:
        """Prepare to serve an app.

        Args:
            drain: Is called when the server is told to stop.
            places: For requests; once they are taken, more are turned away.
        """
        super().__init__(
            uvicorn.Config(
                app,
                http=partial(Protocol, places),  # type: ignore[arg-type]  # uvicorn only ever calls it
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=15,
                backlog=ACCEPTED_AT_ONCE,
                timeout_graceful_shutdown=DRAIN_SECONDS,
                h11_max_incomplete_event_size=HEAD_BYTES,
            )
        )
        self._drain = drain

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen. To asyncio, what may wait and what is accepted at once is one number; here it is two."""
        await super().startup(sockets)
        for door in sockets or ():
            door.listen(WAITING)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Drain when told to stop, and leave it at that."""
        if threading.current_thread() is not threading.main_thread():  # no other can listen to signals
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop, the second time at once."""
        self._drain()
        super().handle_exit(sig, frame)


class Protocol(H11Protocol):
    """HTTP with less patience.

    A connection whose request's head is too long in coming is closed; uvicorn's own timer stops at the first byte.

    When all places are taken, a request that has arrived whole is turned away unread: taking it apart only to refuse it
    costs half of answering it, and at twice the load the server would do little else.
    """

    def __init__(self, places: Places, *words: Any, **named: Any) -> None:
        super().__init__(*words, **named)
        self._places = places
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn narrows it
        """Begin to wait for a head."""
        super().connection_made(transport)
        self._watch_head()

    def data_received(self, data: bytes) -> None:
        """Turn a request away, or hand it on."""
        if self._places.are_taken and self._is_between_requests() and is_whole(data):
            self._places.turned_away += 1
            self.transport.write(TURNED_AWAY)
            self._stop()
        else:
            super().data_received(data)
        self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        super().connection_lost(exc)
        self._stop()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP, in the shape of all errors."""
        body = json.dumps(errors.body(400, msg)).encode()
        head = [
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(body))),
            ("Connection", "close"),
        ]
        for event in (h11.Response(status_code=400, headers=head), h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _is_between_requests(self) -> bool:
        return (self.cycle is None or self.cycle.response_complete) and not self.conn.trailing_data[0]

    def _watch_head(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop()
        elif self._timer is None:
            self._timer = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def is_whole(data: bytes) -> bool:
    r"""Say whether some bytes are one simple POST, from its first byte to its last, that leaves the connection open.

    >>> is_whole(b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"), is_whole(b"POST / HTTP/1.1\r\nContent-Le")
    (True, False)
    """
    head, _, body = data.partition(b"\r\n\r\n")
    length = LENGTH.search(head)
    return (
        length is not None
        and int(length[1]) == len(body)
        and head.startswith(b"POST ")
        and b" HTTP/1.1\r\n" in head
        and UNUSUAL.search(head) is None
    )
