"""Middleware that limits request bodies."""

import asyncio
from contextlib import suppress

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from zebra.serve.concurrency import ConcurrencyLimit
from zebra.serve.errors import BUSY_MESSAGE, HTTPError, error_response
from zebra.serve.limits import BULK_PATHS, MAX_BULK_JSON_FIELDS, MAX_BULK_JSON_VALUES, MAX_JSON_FIELDS, MAX_JSON_VALUES
from zebra.serve.middleware.content_type import is_form
from zebra.serve.middleware.deadline import run_with_deadline

LINGER_SECONDS = 2.0
"""How long the rest of a rejected body is read before the connection closes."""


class BodyLimitMiddleware:
    """Read each request body in full before the app runs; the app then has a deadline.

    Bytes are counted as they arrive, whatever Content-Length says.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        max_bytes: int,
        max_total_bytes: int,
        timeout_seconds: float,
        response_timeout_seconds: float,
        concurrency_limit: ConcurrencyLimit,
    ) -> None:
        """Wrap an app.

        Args:
            max_bytes: Maximum size of one body; larger ones get 413.
            max_total_bytes: Maximum size of all bodies in memory; beyond it, requests get 429.
            timeout_seconds: Time for a body to arrive; slower ones get 408.
            response_timeout_seconds: Time for the app to start its response; slower ones get 503.
            concurrency_limit: Limits requests with a body; beyond it, they get 429 before they are parsed.
        """
        self._app = app
        self._max_bytes = max_bytes
        self._max_total_bytes = max_total_bytes
        self._timeout_seconds = timeout_seconds
        self._response_timeout_seconds = response_timeout_seconds
        self._concurrency_limit = concurrency_limit
        self._buffered_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = bytearray()
        try:
            if await self._read_body_with_timeout(scope, receive, body):
                await self._run_app(scope, bytes(body), receive, send)
        except HTTPError as error:
            await _send_error(error, receive, send)
        finally:
            self._buffered_bytes -= len(body)

    async def _run_app(self, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        if body and self._concurrency_limit.is_full:
            self._concurrency_limit.num_rejected += 1
            await error_response(429, BUSY_MESSAGE, {"Retry-After": "1"})(scope, receive, send)
            return
        self._concurrency_limit.num_active += bool(body)
        try:
            await run_with_deadline(self._app, scope, body, receive, send, self._response_timeout_seconds)
        finally:
            self._concurrency_limit.num_active -= bool(body)

    async def _read_body_with_timeout(self, scope: Scope, receive: Receive, body: bytearray) -> bool:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await self._read_body(scope, receive, body)
        except TimeoutError:
            raise HTTPError(408, f"the request body did not arrive within {self._timeout_seconds:g} s") from None

    async def _read_body(self, scope: Scope, receive: Receive, body: bytearray) -> bool:
        """Append the body to `body`; return False if the client disconnected."""
        content_length = dict(scope["headers"]).get(b"content-length", b"0")
        if content_length.isdigit() and int(content_length) > self._max_bytes:
            raise self._too_large_error()
        has_more = True
        while has_more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return False
            chunk = message.get("body", b"")
            if len(body) + len(chunk) > self._max_bytes:
                raise self._too_large_error()
            if self._buffered_bytes + len(chunk) > self._max_total_bytes:
                raise HTTPError(429, "too many request bytes in flight", retry_after_seconds=1)
            body += chunk
            self._buffered_bytes += len(chunk)
            has_more = message.get("more_body", False)
        if not is_form(Headers(scope=scope)):
            require_few_values(body, scope["path"])
        return True

    def _too_large_error(self) -> HTTPError:
        return HTTPError(413, f"request body too large: at most {self._max_bytes:,} bytes are allowed")


def require_few_values(body: bytes | bytearray, path: str) -> None:
    """Reject JSON whose objects in memory would take many times its size; HTTPError (413)."""
    is_bulk = path.startswith(BULK_PATHS)
    num_fields, num_values = sum(map(body.count, (b":", b"[", b"{"))), body.count(b",")
    if num_fields > (MAX_BULK_JSON_FIELDS if is_bulk else MAX_JSON_FIELDS) or num_values > (
        MAX_BULK_JSON_VALUES if is_bulk else MAX_JSON_VALUES
    ):
        raise HTTPError(413, f"the request has too many fields ({num_fields:,}) or values ({num_values:,})")


async def _send_error(error: HTTPError, receive: Receive, send: Send) -> None:
    """Send an error, then discard the rest of the body: closing at once may lose the response (TCP reset)."""
    headers = {"Connection": "close"}
    if error.retry_after_seconds is not None:
        headers["Retry-After"] = str(error.retry_after_seconds)
    response = error_response(error.status_code, str(error), headers)
    await send({"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers})
    await send({"type": "http.response.body", "body": response.body, "more_body": True})
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            while (await receive()).get("more_body", False):
                pass
    await send({"type": "http.response.body", "body": b""})
