"""Middleware that answers unexpected exceptions with status 500 and logs them."""

import logging

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from zebra.serve.errors import error_response

log = logging.getLogger(__name__)


class ErrorMiddleware:
    """Answer 500 when an app raises an unexpected exception, and log the traceback."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        has_started = False

        async def track_start(message: Message) -> None:
            nonlocal has_started
            has_started = True
            await send(message)

        try:
            await self._app(scope, receive, track_start)
        except Exception:  # one request must not stop the others
            log.exception("%s %s failed", scope.get("method"), scope.get("path"))
            if scope["type"] != "http" or has_started:
                raise
            await error_response(500, "internal error; see the server log")(scope, receive, send)
