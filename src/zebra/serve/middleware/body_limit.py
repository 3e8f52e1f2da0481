"""Bodies of requests: read whole before a route sees them, bounded in size and time; who leaves is not worked for."""

import asyncio
from contextlib import suppress

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from zebra.serve import errors
from zebra.serve.errors import Refusal

LINGER_SECONDS = 2.0
BUSY = "the server is busy; try again later"


class Places:
    """How many requests are worked on, and how many may be."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.taken = 0
        self.turned_away = 0

    @property
    def are_taken(self) -> bool:
        """Whether the next request has to be turned away."""
        return self.taken >= self.number


class Bodies:
    """Reads the body of each request of an app, lets so many in at once, and cancels one whose client has left.

    Bytes are counted as they arrive, whatever the head says of their number.
    """

    def __init__(
        self, app: ASGIApp, *, most: int, most_together: int, seconds: float, places: Places
    ) -> None:
        """Wrap an app.

        Args:
            most: Bytes of one body; more are refused with 413.
            most_together: Bytes of all bodies that are held at once; beyond, requests are refused with 429.
            seconds: For a body to arrive; slower ones are refused with 408.
            places: For requests with a body; beyond, they are refused with 429 before anything is made of it.
        """
        self._app = app
        self._most = most
        self._most_together = most_together
        self._seconds = seconds
        self._places = places
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = bytearray()
        try:
            if await self._read_in_time(scope, receive, body):
                await self._work(scope, bytes(body), receive, send)
        except Refusal as refusal:
            await _refuse(refusal, receive, send)
        finally:
            self._held -= len(body)

    async def _work(self, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        if body and self._places.are_taken:
            self._places.turned_away += 1
            await errors.response(429, BUSY, {"Retry-After": "1"})(scope, receive, send)
            return
        self._places.taken += bool(body)
        try:
            await _unless_gone(self._app, scope, body, receive, send)
        finally:
            self._places.taken -= bool(body)

    async def _read_in_time(self, scope: Scope, receive: Receive, body: bytearray) -> bool:
        try:
            async with asyncio.timeout(self._seconds):
                return await self._read(scope, receive, body)
        except TimeoutError:
            raise Refusal(408, "the body of the request took too long") from None

    async def _read(self, scope: Scope, receive: Receive, body: bytearray) -> bool:
        """Collect the body; False if the client left."""
        promised = dict(scope["headers"]).get(b"content-length", b"0")
        if promised.isdigit() and int(promised) > self._most:
            raise self._too_large()
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return False
            piece = message.get("body", b"")
            if len(body) + len(piece) > self._most:
                raise self._too_large()
            if self._held + len(piece) > self._most_together:
                raise Refusal(429, "the server is receiving too much at once", retry_seconds=1)
            body += piece
            self._held += len(piece)
            more = message.get("more_body", False)
        return True

    def _too_large(self) -> Refusal:
        return Refusal(413, f"the body of a request may have {self._most:,} bytes")


async def _refuse(refusal: Refusal, receive: Receive, send: Send) -> None:
    """Answer, and let go of what is still being sent: a connection closed at once may take the answer with it."""
    headers = {"Connection": "close"}
    if refusal.retry_seconds is not None:
        headers["Retry-After"] = str(refusal.retry_seconds)
    answer = errors.response(refusal.status, str(refusal), headers)
    await send({"type": "http.response.start", "status": answer.status_code, "headers": answer.raw_headers})
    await send({"type": "http.response.body", "body": answer.body, "more_body": True})
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            while (await receive()).get("more_body", False):
                pass
    await send({"type": "http.response.body", "body": b""})


async def _unless_gone(app: ASGIApp, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
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
