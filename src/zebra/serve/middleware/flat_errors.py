"""Middleware that sends errors as a text, for clients that read no other form."""

import json
from collections.abc import Collection

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class FlatErrorMiddleware:
    """Answer errors of some paths as `{"error": message}`.

    Weaviate's client decodes `error` as a string before it looks at the status: of an object, users see neither.
    """

    def __init__(self, app: ASGIApp, *, paths: Collection[str]) -> None:
        self._app = app
        self._paths = frozenset(paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        start: Message | None = None

        async def send_flat(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start" and message["status"] >= 400:
                start = message
                return
            if start is not None:
                body = _flatten(message["body"])
                headers = [header for header in start["headers"] if header[0] != b"content-length"]
                await send({**start, "headers": [*headers, (b"content-length", str(len(body)).encode())]})
                start, message = None, {**message, "body": body}
            await send(message)

        await self._app(scope, receive, send_flat if scope.get("path") in self._paths else send)


def _flatten(body: bytes) -> bytes:
    """Return an error of the server in the flat form."""
    return json.dumps({"error": json.loads(body)["error"]["message"]}).encode()
