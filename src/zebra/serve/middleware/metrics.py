"""Middleware that counts and times requests."""

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from zebra.serve.metrics import Metrics

CLIENT_CLOSED_REQUEST = 499
"""Status that is recorded if the client disconnects before the response, as nginx does."""


class MetricsMiddleware:
    """Count and time every request of an app."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_at, status = time.monotonic(), CLIENT_CLOSED_REQUEST

        async def record_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, record_status)
        finally:
            # The route, never the path: a path is arbitrary text and would create unbounded label values.
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.count_request(route, status, time.monotonic() - started_at)
