"""Bodies of requests: read whole before a route sees them, bounded in size and time; who leaves is not worked for."""

import asyncio
from contextlib import suppress

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from zebra.serve import errors
from zebra.serve.errors import HTTPError

LINGER_SECONDS = 2.0
BUSY_MESSAGE = "the server is busy; try again later"


class ConcurrencyLimit:
    """How many requests are worked on, and how many may be."""

    def __init__(self, max_requests: int) -> None:
        self.max_requests = max_requests
        self.num_active = 0
        self.num_rejected = 0

    @property
    def is_full(self) -> bool:
        """Whether the next request has to be turned away."""
        return self.num_active >= self.max_requests


class BodyLimitMiddleware:
    """Reads the body of each request of an app, lets so many in at once, and cancels one whose client has left.

    Bytes are counted as they arrive, whatever the head says of their number.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        max_bytes: int,
        max_total_bytes: int,
        timeout_seconds: float,
        concurrency_limit: ConcurrencyLimit,
    ) -> None:
        """Wrap an app.

        Args:
            max_bytes: Bytes of one body; more are refused with 413.
            max_total_bytes: Bytes of all bodies that are held at once; beyond, requests are refused with 429.
            timeout_seconds: For a body to arrive; slower ones are refused with 408.
            concurrency_limit: For requests with a body; beyond, they are refused with 429 before anything is made of it.
        """
        self._app = app
        self._max_bytes = max_bytes
        self._max_total_bytes = max_total_bytes
        self._timeout_seconds = timeout_seconds
        self._concurrency_limit = concurrency_limit
        self._buffered_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = bytearray()
        try:
            if await self._read_body_with_timeout(scope, receive, body):
                await self._run_app(scope, bytes(body), receive, send)
        except HTTPError as refusal:
            await _send_error(refusal, receive, send)
        finally:
            self._buffered_bytes -= len(body)

    async def _run_app(self, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        if body and self._concurrency_limit.is_full:
            self._concurrency_limit.num_rejected += 1
            await errors.error_response(429, BUSY_MESSAGE, {"Retry-After": "1"})(scope, receive, send)
            return
        self._concurrency_limit.num_active += bool(body)
        try:
            await _cancel_on_disconnect(self._app, scope, body, receive, send)
        finally:
            self._concurrency_limit.num_active -= bool(body)

    async def _read_body_with_timeout(self, scope: Scope, receive: Receive, body: bytearray) -> bool:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await self._read_body(scope, receive, body)
        except TimeoutError:
            raise HTTPError(408, "the body of the request took too long") from None

    async def _read_body(self, scope: Scope, receive: Receive, body: bytearray) -> bool:
        """Collect the body; False if the client left."""
        promised = dict(scope["headers"]).get(b"content-length", b"0")
        if promised.isdigit() and int(promised) > self._max_bytes:
            raise self._too_large_error()
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return False
            piece = message.get("body", b"")
            if len(body) + len(piece) > self._max_bytes:
                raise self._too_large_error()
            if self._buffered_bytes + len(piece) > self._max_total_bytes:
                raise HTTPError(429, "the server is receiving too much at once", retry_after_seconds=1)
            body += piece
            self._buffered_bytes += len(piece)
            more = message.get("more_body", False)
        return True

    def _too_large_error(self) -> HTTPError:
        return HTTPError(413, f"the body of a request may have {self._max_bytes:,} bytes")


async def _send_error(error: HTTPError, receive: Receive, send: Send) -> None:
    """Answer, and let go of what is still being sent: a connection closed at once may take the answer with it."""
    headers = {"Connection": "close"}
    if error.retry_after_seconds is not None:
        headers["Retry-After"] = str(error.retry_after_seconds)
    answer = errors.error_response(error.status_code, str(error), headers)
    await send({"type": "http.response.start", "status": answer.status_code, "headers": answer.raw_headers})
    await send({"type": "http.response.body", "body": answer.body, "more_body": True})
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            while (await receive()).get("more_body", False):
                pass
    await send({"type": "http.response.body", "body": b""})


async def _cancel_on_disconnect(
    app: ASGIApp, scope: Scope, body: bytes, receive: Receive, send: Send
) -> None:
    """Run a request, and cancel it if the client leaves before the end."""
    pieces: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        if pieces:
            return pieces.pop()
        await asyncio.Event().wait()  # the app is cancelled instead of told
        raise AssertionError

    async def gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    answering = asyncio.ensure_future(app(scope, replay, send))
    leaving = asyncio.ensure_future(gone())
    try:
        await asyncio.wait([answering, leaving], return_when=asyncio.FIRST_COMPLETED)
        if answering.done():
            answering.result()
            return
        answering.cancel()
        with suppress(asyncio.CancelledError):
            await answering
    finally:
        for task in (answering, leaving):
            task.cancel()
