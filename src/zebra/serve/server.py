"""Uvicorn server with header time-outs, early rejection under load, and draining."""

import signal
import socket
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType

import uvicorn
from fastapi import FastAPI

from zebra.serve.concurrency import ConcurrencyLimit
from zebra.serve.http_protocol import HTTPProtocol
from zebra.serve.plain_request import MAX_HEADER_BYTES

KEEP_ALIVE_SECONDS = 15
DRAIN_TIMEOUT_SECONDS = 25
"""Time to answer accepted requests after the shutdown signal."""
ACCEPTS_PER_LOOP = 8
"""Connections that are accepted, 0.2 ms each, before open connections are served again."""
LISTEN_BACKLOG = 1024
"""Connections that the kernel queues until they are accepted."""
SHUTDOWN_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Server(uvicorn.Server):
    """Uvicorn with limits; `run` returns once every accepted request is answered.

    Uvicorn itself raises the shutdown signal again after draining; this server exits normally.
    """

    def __init__(
        self,
        app: FastAPI,
        on_shutdown: Callable[[], None],
        concurrency_limit: ConcurrencyLimit,
        origins: Collection[str] = (),
    ) -> None:
        """Create a server for an app.

        Args:
            on_shutdown: Called on the shutdown signal.
            concurrency_limit: Limits the requests in progress; beyond it, requests are rejected.
            origins: Other origins whose scripts may read these rejections.
        """
        super().__init__(
            uvicorn.Config(
                app,
                http=partial(HTTPProtocol, concurrency_limit, origins),  # type: ignore[arg-type]  # uvicorn only calls it
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
